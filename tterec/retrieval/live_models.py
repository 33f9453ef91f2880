"""The live generation: what the registry says of it, checked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tterec import errors


@dataclass(frozen=True)
class Ranking:
    """How a generation's second stage mixes, how many nearest items it looks at, and how many
    items and traits there are that may speak for an item; as `models.ranker` has it."""

    similarity_weight: float
    unrated_weight: float
    candidates: int
    width: int


@dataclass(frozen=True)
class LiveModel:
    """The live generation, as it was when asked. Weights float64 (12,), profile float32 (d,).

    `ranking` is None where it has no second stage.
    """

    generation: int
    dim: int
    normalised: bool
    max_history: int
    history_weights: NDArray[np.float64]
    default_profile: NDArray[np.float32]
    ef_search: int
    extension: str
    ranking: Ranking | None


def model_of(row: tuple[Any, ...]) -> LiveModel:
    """A row of `sql/retrieval/live_model.sql`. Raises DatabaseError where it is damaged."""
    generation, dim, normalised, max_history, weights, profile, ef_search, extension, ranker = row
    model = LiveModel(
        generation=generation,
        dim=dim,
        normalised=normalised,
        max_history=max_history,
        history_weights=np.array(weights, dtype=np.float64),
        default_profile=np.array(profile, dtype=np.float32),
        ef_search=ef_search,
        extension=extension,
        ranking=None if ranker is None else _ranking(ranker, generation),
    )
    if model.history_weights.shape != (12,) or model.default_profile.shape != (dim,):
        raise damaged(generation)
    return model


def _ranking(ranker: Any, generation: int) -> Ranking:
    try:
        found = Ranking(**ranker)
    except TypeError as error:
        raise damaged(generation) from error
    weights, sizes = (
        (found.similarity_weight, found.unrated_weight),
        (found.candidates, found.width),
    )
    if not (
        all(type(weight) in (int, float) and abs(weight) < np.inf for weight in weights)
        and found.unrated_weight >= 0
        and all(type(size) is int and 0 <= size < 2**31 for size in sizes)
    ):
        raise damaged(generation)
    return found


def damaged(generation: int) -> errors.DatabaseError:
    """The error for what no version of tterec has written."""
    return errors.DatabaseError(
        f"what the tables hold of generation {generation} is damaged; "
        "run: tterec models rollback, or: tterec train"
    )
