"""What embeds somebody of whom only features are known: rows of the user tower."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tterec import errors
from tterec.database import vectors
from tterec.database.connection import Connection
from tterec.records import ProfileColumn
from tterec.retrieval.live_models import LiveModel
from tterec.retrieval.pgvector import query


def columns(connection: Connection, model: LiveModel) -> list[ProfileColumn]:
    """The user tower's columns, without their tokens; see `tokens`.

    Raises UnknownGeneration where an older tterec published the generation.
    """
    if query(connection, "profiles_kept", model).fetchone() != (True,):
        raise errors.UnknownGeneration(
            f"generation {model.generation} was published by an older tterec and cannot embed a "
            "profile; run: tterec train"
        )
    rows = query(connection, "profile_columns", generation=model.generation).fetchall()
    none = np.zeros((0, model.dim), dtype=np.float32)
    return [
        ProfileColumn(
            name=name,
            kind=kind,
            mean=None if mean is None else np.array(mean, dtype=np.float64),
            scale=None if scale is None else np.array(scale, dtype=np.float64),
            weights=None
            if weights is None
            else np.array(weights, dtype=np.float32).reshape(-1, model.dim),
            buckets=buckets,
            tokens=(),
            embeddings=none,
        )
        for name, kind, mean, scale, weights, buckets in rows
    ]


def tokens(
    connection: Connection, model: LiveModel, name: str, keys: Sequence[str]
) -> NDArray[np.float32]:
    """The embeddings (n, d) of those of a column's tokens that there are."""
    if not keys:
        return np.zeros((0, model.dim), dtype=np.float32)
    rows = query(connection, "profile_tokens", model, feature=name, tokens=list(keys)).fetchall()
    return vectors.decode([row[1] for row in rows], model.dim)
