"""Which candidate index answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tterec.database.connection import Connection
from tterec.errors import InvalidArgument
from tterec.retrieval import pgvector
from tterec.retrieval.base import CandidateIndex, Candidates
from tterec.retrieval.live_models import LiveModel
from tterec.retrieval.matrix import MatrixIndex
from tterec.retrieval.pgvector import Among

if TYPE_CHECKING:
    from tterec.retrieval.faiss_index import FaissIndex, Kind
    from tterec.retrieval.index_files import Key

PGVECTOR = "pgvector"
KINDS: dict[str, Kind] = {"faiss-flat": "flat", "faiss-hnsw": "hnsw", "faiss-ivfpq": "ivfpq"}
INDEXES = (PGVECTOR, *KINDS)


class Indexes:
    """The index that was chosen, over whichever generation is live when it is asked for.

    An index of FAISS is held in memory until the vectors that it is of are others.
    """

    def __init__(self, name: str = PGVECTOR) -> None:
        """Raises InvalidArgument for an unknown name, TterecError where FAISS is missing."""
        if name not in INDEXES:
            raise InvalidArgument(f"index {name!r} is none of {', '.join(INDEXES)}")
        self.name = name
        self._kind = KINDS.get(name)
        self._held: tuple[Key, FaissIndex] | None = None
        if self._kind is not None:
            from tterec.retrieval.faiss_index import require_faiss

            require_faiss()

    @property
    def default(self) -> bool:
        """Whether it is the one that the SQL functions use."""
        return self._kind is None

    def of(
        self, connection: Connection, model: LiveModel, among: Among | None = None
    ) -> CandidateIndex:
        """For one question, in its transaction. FAISS knows no columns: Postgres filters."""
        if self._kind is None or among is not None:
            return pgvector.PgvectorIndex(connection, model, among)
        from tterec.retrieval.faiss_candidates import FaissCandidates

        return FaissCandidates(connection, model, self._faiss(connection, model, self._kind))

    def of_catalogue(
        self, connection: Connection, model: LiveModel, among: Among | None = None
    ) -> MatrixIndex:
        """For many users, over the catalogue as it is now, held in memory.

        With pgvector, and with filters, it is searched exhaustively.
        """
        items: Candidates = pgvector.catalogue(connection, model, among)
        if self._kind is None or among is not None:
            return MatrixIndex(items)
        from tterec.retrieval.faiss_candidates import FaissMatrix, default_effort

        index = self._faiss(connection, model, self._kind)
        return FaissMatrix(items, index, default_effort(index, model))

    def _faiss(self, connection: Connection, model: LiveModel, kind: Kind) -> FaissIndex:
        from tterec.retrieval import index_files

        key = index_files.current(connection, model, kind)
        if self._held is None or self._held[0] != key:
            self._held = None  # two of them need not fit
            self._held = key, index_files.obtain(connection, model, key)
        return self._held[1]
