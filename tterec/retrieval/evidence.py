"""What the second stage asks of Postgres: candidates, and what speaks for each of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tterec.database import sparse_vectors, vectors
from tterec.database.connection import Connection
from tterec.database.sparse_vectors import Rows
from tterec.records import Ranker
from tterec.retrieval import pgvector
from tterec.retrieval.base import Candidates
from tterec.retrieval.live_models import LiveModel, Ranking, damaged
from tterec.retrieval.pgvector import Among


@contextmanager
def _sound(model: LiveModel) -> Iterator[None]:
    """Places that are none of a vector's, or no numbers, are of no training: DatabaseError."""
    try:
        yield
    except (TypeError, ValueError, IndexError, OverflowError) as error:
        raise damaged(model.generation) from error


@dataclass(frozen=True)
class Considered:
    """Candidates with their rows of evidence, and what speaks in these rows: places, int64 (p,),
    with how much each of them counts, float64 (p,)."""

    candidates: Candidates
    evidence: Rows
    speaking: NDArray[np.int64]
    voices: NDArray[np.float64]


def considered(
    connection: Connection,
    model: LiveModel,
    *,
    near: NDArray[np.int64],
    met: NDArray[np.int64],
    voices: NDArray[np.float64],
    excluded: NDArray[np.int64],
    among: Among | None = None,
) -> Considered:
    """The items `near` the user's vector and those that the items `met` speak for most.

    All are item ids; `excluded` ones are left out, and those that left the catalogue or do not
    pass the filters. voices: how much each of those met counts.
    """
    rows = pgvector.query(
        connection,
        "second_stage",
        model,
        among=among,
        near=near,
        met=met,
        excluded=np.sort(excluded),
    ).fetchall()
    with _sound(model):
        speaking: dict[int, float] = {}
        traits: dict[int, float] = {}
        loudness = dict(zip(met[::-1].tolist(), voices[::-1].tolist(), strict=True))
        for item, place, had in pgvector.query(connection, "met_places", model, met=met):
            if place is not None:
                speaking[place] = loudness[item]
            for trait in had:
                traits[trait] = traits.get(trait, 0.0) + loudness[item]
        speaking |= {trait: math.log1p(total) for trait, total in traits.items()}
        return Considered(
            Candidates(
                item_ids=np.array([row[0] for row in rows], dtype=np.int64),
                isbns=[row[1] for row in rows],
                titles=[row[2] for row in rows],
                vectors=vectors.decode([row[3] for row in rows], model.dim),
            ),
            sparse_vectors.decode([row[4] for row in rows]),
            np.array([*speaking], dtype=np.int64) - 1,
            np.array([*speaking.values()]),
        )


def met_places(
    connection: Connection, model: LiveModel, met: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], list[NDArray[np.int64]]]:
    """Of the items met, those of the second stage: ids (m,), places (m,), and each one's traits.

    The place is -1 of an item that came after the training.
    """
    rows = pgvector.query(connection, "met_places", model, met=met).fetchall()
    with _sound(model):
        return (
            np.array([row[0] for row in rows], dtype=np.int64),
            np.array([row[1] or 0 for row in rows], dtype=np.int64) - 1,
            [np.array(row[2], dtype=np.int64) - 1 for row in rows],
        )


def of_item(connection: Connection, model: LiveModel, item_id: int) -> Rows:
    """What speaks for one item: a single row, without entries where nothing does."""
    rows = pgvector.query(connection, "item_evidence", model, item_id=item_id).fetchall()
    found = sparse_vectors.decode([row[0] for row in rows])
    return found if rows else Rows(np.zeros(2, np.int64), found.positions, found.values)


def ranker(connection: Connection, model: LiveModel, ranking: Ranking) -> Ranker:
    """The whole second stage, to rank many users in memory."""
    rows = pgvector.query(connection, "all_evidence", model).fetchall()
    with _sound(model):
        evidence = sparse_vectors.decode([row[1] for row in rows])
        item_ids = np.array([row[0] for row in rows], dtype=np.int64)
        known = set(item_ids.tolist())
        led = [[item for item in row[2] if item in known] for row in rows]
        leads = np.full((len(rows), max(map(len, led), default=0)), -1, dtype=np.int64)
        for filled, items in zip(leads, led, strict=True):
            filled[: len(items)] = items
        # Items may have come and gone since the training: their places are not their rows.
        traits = np.array([trait - 1 for row in rows for trait in row[3]], dtype=np.int64)
        spoken, number = np.unique(traits, return_inverse=True)
        sources = np.full(ranking.width, -1, dtype=np.int64)
        sources[spoken] = len(rows) + np.arange(len(spoken))
        for row, (*_, place) in enumerate(rows):
            if place is not None:
                sources[place - 1] = row
        heard = sources[evidence.positions] >= 0  # nobody is left to say the rest
        counts = np.concatenate([[0], np.cumsum(heard)])
        return Ranker(
            item_ids=item_ids,
            offsets=counts[evidence.offsets],
            sources=sources[evidence.positions[heard]],
            weights=evidence.values[heard],
            leads=leads,
            width=len(rows) + len(spoken),
            trait_offsets=np.cumsum([0, *(len(row[3]) for row in rows)]),
            traits=len(rows) + number,
            similarity_weight=ranking.similarity_weight,
            unrated_weight=ranking.unrated_weight,
            candidates=ranking.candidates,
        )
