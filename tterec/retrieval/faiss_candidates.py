"""FAISS as a candidate index: what it finds near a vector, and never fewer than there are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tterec.database.connection import Connection
from tterec.retrieval import pgvector
from tterec.retrieval.base import Candidates
from tterec.retrieval.faiss_index import FaissIndex
from tterec.retrieval.live_models import LiveModel
from tterec.retrieval.matrix import NO_PAIRS, MatrixIndex, Pairs, positions

# Scores that differ by less than their rounding rank by id, across the k-th place too.
_SPARE = 5
_TIE = 1e-5
# Codes of one byte for two dimensions mistake one item for another: more are scored exactly.
_CODED = 4
_LEAST_CODED = 100
# To ask for more than this costs what a scan of all vectors costs.
_MOST = 4000
# Of those excluded, this many may stand among the nearest; a scan of all follows where more do.
_MOST_EXCLUDED = 1000

Show = Callable[[NDArray[np.int64]], Candidates]
"""Those of some item ids that are in the catalogue."""


def default_effort(index: FaissIndex, model: LiveModel) -> int:
    """What a search takes: the ef_search that the generation was measured with; an eighth of
    the lists."""
    if index.kind == "ivfpq":
        return max(8, index.lists // 8)
    return model.ef_search


class FaissCandidates:
    """The live generation's items by FAISS, shown as they are now. Use it in one transaction."""

    def __init__(
        self, connection: Connection, model: LiveModel, index: FaissIndex, effort: int | None = None
    ) -> None:
        self._connection = connection
        self._model = model
        self._index = index
        self._effort = default_effort(index, model) if effort is None else effort

    def candidates(
        self,
        user_vector: NDArray[np.floating],
        k: int,
        excluded: NDArray[np.int64],
    ) -> Candidates:
        """See CandidateIndex. A scan of all vectors follows where the index stops short."""
        found = _gathered(
            self._index,
            user_vector,
            k,
            excluded,
            effort=self._effort,
            show=lambda item_ids: pgvector.shown(self._connection, self._model, item_ids),
        )
        if found is None:
            exact = pgvector.PgvectorIndex(self._connection, self._model)
            return exact.scanned(user_vector, k, excluded)
        return found


class FaissMatrix(MatrixIndex):
    """The same over a catalogue held in memory, for many users."""

    def __init__(self, items: Candidates, index: FaissIndex, effort: int) -> None:
        super().__init__(items)
        self._index = index
        self._effort = effort

    def nearest(self, user_vectors: NDArray[np.floating], k: int, excluded: Pairs) -> Pairs:
        """Candidates for vectors (users, d); see MatrixIndex."""
        found = []
        bounds = np.searchsorted(excluded.owners, np.arange(len(user_vectors) + 1))
        for user, vector in enumerate(user_vectors):
            rows = excluded.rows[bounds[user] : bounds[user + 1]]
            near = _gathered(
                self._index,
                vector,
                k,
                self.items.item_ids[rows],
                effort=self._effort,
                show=lambda item_ids: self.shown(positions(self.items.item_ids, item_ids)[0]),
            )
            if near is None:
                unwanted = Pairs(np.zeros(len(rows), np.int64), rows)
                found.append(super().nearest(vector[None, :], k, unwanted).rows)
            else:
                found.append(positions(self.items.item_ids, near.item_ids)[0])
        owners = np.repeat(np.arange(len(found)), [len(rows) for rows in found])
        return Pairs(owners, np.concatenate(found)) if found else NO_PAIRS


def _gathered(
    index: FaissIndex,
    vector: NDArray[np.floating],
    k: int,
    excluded: NDArray[np.int64],
    *,
    effort: int,
    show: Show,
) -> Candidates | None:
    """At least k items of the catalogue near a vector; None where a scan of all must find them.

    Some that the index has may have left the catalogue, and ties may reach beyond the k-th: then
    it is asked for more.
    """
    n = k + _SPARE
    if index.kind == "ivfpq":
        n = max(n, _CODED * k, _LEAST_CODED)
    while n <= max(_MOST, 2 * k):
        looked = effort
        if index.kind == "hnsw":  # what is excluded is passed on the way
            looked = max(effort, n + min(len(excluded), _MOST_EXCLUDED))
        item_ids, scores = index.nearest(vector, n, excluded, looked)
        if len(item_ids) < k:
            return None
        found = show(item_ids)
        if len(found) >= k and (len(item_ids) < n or not _tied(index, item_ids, scores, found, k)):
            return found
        if len(item_ids) < n:
            return None
        n *= 4
    return None


def _tied(
    index: FaissIndex,
    item_ids: NDArray[np.int64],
    scores: NDArray[np.float32],
    found: Candidates,
    k: int,
) -> bool:
    """Whether items that were not found may score as much as the k-th that was."""
    if not k or index.kind == "ivfpq":  # its scores are those of codes
        return False
    near = scores[np.isin(item_ids, found.item_ids)]
    if len(near) < k:  # of a catalogue that returns an item twice
        return True
    kth = float(near[k - 1])
    return kth - float(scores[-1]) <= _TIE * max(1.0, abs(kth))
