"""Which candidate index answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tterec.database import vectors
from tterec.database.connection import Connection
from tterec.errors import InvalidArgument
from tterec.retrieval import pgvector
from tterec.retrieval.base import CandidateIndex, Candidates
from tterec.retrieval.pgvector import Among, LiveModel, PgvectorIndex

if TYPE_CHECKING:
    from tterec.retrieval.faiss_index import FaissIndex

PGVECTOR = "pgvector"
INDEXES = (PGVECTOR, "faiss-flat", "faiss-hnsw", "faiss-ivfpq")

# As pgvector's: scores that differ by less than their rounding rank by id, and a few items may
# have left the catalogue.
_SPARE = 5


class Indexes:
    """The candidate index of a kind, for whichever generation is live.

    An index of FAISS is held in memory, and on disk below `cache`; it is built again when the
    generation's vectors are others. Under filters pgvector answers: FAISS knows no columns.
    """

    def __init__(self, kind: str = PGVECTOR, cache: Path | None = None) -> None:
        """Raises InvalidArgument for an unknown kind, TterecError where FAISS is missing."""
        if kind not in INDEXES:
            raise InvalidArgument(f"index {kind!r} is unknown; choose {', '.join(INDEXES)}")
        if kind != PGVECTOR:
            from tterec.retrieval import faiss_index

            faiss_index.require()
        self._kind = kind
        self._cache = cache
        self._held: tuple[str, FaissIndex] | None = None

    def of(
        self, connection: Connection, model: LiveModel, among: Among | None = None
    ) -> CandidateIndex:
        """The index over a generation's vectors, to be used in the same transaction."""
        if self._kind == PGVECTOR or among is not None:
            return PgvectorIndex(connection, model, among)
        return FaissCandidates(connection, model, self._faiss(connection, model))

    def _faiss(self, connection: Connection, model: LiveModel) -> FaissIndex:
        key = f"{model.generation}/{model.revision}"
        if self._held is None or self._held[0] != key:
            from tterec.config import home
            from tterec.retrieval.index_cache import cached

            folder = (self._cache or home() / "cache") / pgvector.identity(connection)
            held = cached(folder, self._kind, key, lambda: build(self._kind, connection, model))
            self._held = (key, held)
        return self._held[1]


def build(kind: str, connection: Connection, model: LiveModel) -> FaissIndex:
    """An index of FAISS over a generation's vectors."""
    from tterec.retrieval.faiss_index import FaissIndex

    item_ids, matrix = pgvector.all_item_vectors(connection, model)
    return FaissIndex.build(kind, item_ids, matrix, model.ef_search)


class FaissCandidates:
    """What FAISS finds, as the catalogue shows it now. Use it inside one transaction."""

    def __init__(self, connection: Connection, model: LiveModel, index: FaissIndex) -> None:
        self._connection = connection
        self._model = model
        self._index = index

    def candidates(
        self, user_vector: NDArray[np.floating], k: int, excluded: NDArray[np.int64]
    ) -> Candidates:
        """See CandidateIndex. pgvector is asked where FAISS stops short."""
        item_ids = self._index.nearest(user_vector, k + _SPARE, excluded)
        rows = pgvector.query(
            self._connection, "of_items", self._model, item_ids=item_ids.tolist()
        ).fetchall()
        if len(rows) < k:
            return PgvectorIndex(self._connection, self._model).candidates(user_vector, k, excluded)
        return Candidates(
            item_ids=np.array([row[0] for row in rows], dtype=np.int64),
            isbns=[row[1] for row in rows],
            titles=[row[2] for row in rows],
            vectors=vectors.decode([row[3] for row in rows], self._model.dim),
        )
