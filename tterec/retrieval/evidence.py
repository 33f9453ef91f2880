"""What the second stage asks of Postgres: candidates, and what speaks for each of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tterec.database import sparse_vectors, vectors
from tterec.database.connection import Connection
from tterec.database.sparse_vectors import Rows
from tterec.records import Ranker
from tterec.retrieval import pgvector
from tterec.retrieval.base import Candidates
from tterec.retrieval.pgvector import LiveModel, Ranking


@dataclass(frozen=True)
class Considered:
    """Candidates with their rows of evidence; `met`, int64: of each item met, in their order, its
    place in these rows, -1 for those that the generation does not know."""

    candidates: Candidates
    evidence: Rows
    met: NDArray[np.int64]


def considered(
    connection: Connection,
    model: LiveModel,
    near: NDArray[np.int64],
    met: NDArray[np.int64],
    excluded: NDArray[np.int64],
) -> Considered:
    """The items `near` the user's vector and those that the items `met` speak for most.

    All are item ids; `excluded` ones are left out, and those that left the catalogue.
    """
    given = {"near": near.tolist(), "met": met.tolist(), "excluded": excluded.tolist()}
    rows = pgvector.query(connection, "second_stage", model, **given).fetchall()
    places = dict(pgvector.query(connection, "met_places", model, met=met.tolist()).fetchall())
    return Considered(
        Candidates(
            item_ids=np.array([row[0] for row in rows], dtype=np.int64),
            isbns=[row[1] for row in rows],
            titles=[row[2] for row in rows],
            vectors=vectors.decode([row[3] for row in rows], model.dim),
        ),
        sparse_vectors.decode([row[4] for row in rows]),
        np.array([places.get(item, -1) for item in met.tolist()], dtype=np.int64),
    )


def ranker(connection: Connection, model: LiveModel, ranking: Ranking) -> Ranker:
    """The whole second stage, to rank many users in memory."""
    rows = pgvector.query(connection, "all_evidence", model).fetchall()
    evidence = sparse_vectors.decode([row[1] for row in rows])
    width = max((len(row[2]) for row in rows), default=0)
    leads = np.full((len(rows), width), -1, dtype=np.int64)
    for place, (_, _, led) in enumerate(rows):
        leads[place, : len(led)] = led
    return Ranker(
        item_ids=np.array([row[0] for row in rows], dtype=np.int64),
        offsets=evidence.offsets,
        sources=evidence.positions,
        weights=evidence.values,
        leads=leads,
        similarity_weight=ranking.similarity_weight,
        unrated_weight=ranking.unrated_weight,
        candidates=ranking.candidates,
    )
