"""Lists of many users at once by a strategy, from what is held in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from tterec import assemble, strategies
from tterec.database.connection import Connection
from tterec.ranking.averages import nearest_first, weighted_average
from tterec.records import Clusters, Recommendation, Strategy, User
from tterec.retrieval import pgvector
from tterec.retrieval import users as user_rows
from tterec.retrieval.live_models import LiveModel
from tterec.retrieval.matrix import MatrixIndex, positions
from tterec.retrieval.pgvector import NO_ITEMS, Among
from tterec.retrieval.users import History

_EVERYTHING = 2**31 - 1
_MOST_USERS_AT_ONCE = 256
_LINES_AT_ONCE = 2**17  # of some 200 bytes each


class BulkStrategy:
    """A generation's item vectors, its popular books and, for a strategy by clusters, these."""

    def __init__(
        self,
        connection: Connection,
        strategy: Strategy,
        clusters_of: Callable[[Connection, LiveModel], Clusters],
        among: Among | None = None,
    ) -> None:
        self.model = pgvector.live_model(connection)
        self._popular = pgvector.popular(connection, self.model, _EVERYTHING, NO_ITEMS, among)
        self._average = self.model is not None and strategy != "popular"
        self._by_cluster: list[list[Recommendation]] | None = None
        if self.model is None or not self._average:
            return
        self._item_ids, self._vectors = pgvector.all_item_vectors(connection, self.model)
        self._index = MatrixIndex(pgvector.catalogue(connection, self.model, among))
        if strategies.method_of(strategy) is not None:
            clusters = clusters_of(connection, self.model)
            self._centres = clusters.centres
            self._by_cluster = [[] for _ in range(len(clusters.centres) + 1)]
            of = dict(zip(clusters.item_ids.tolist(), clusters.labels.tolist(), strict=True))
            for one in self._popular:
                self._by_cluster[of.get(one.book_id, -1)].append(one)  # -1: in none, comes last

    def users_at_once(self, k: int) -> int:
        """How many lists of k are made at once."""
        return min(max(_LINES_AT_ONCE // max(k, 1), 1), _MOST_USERS_AT_ONCE)

    def recommend(
        self, connection: Connection, users: Sequence[User], k: int
    ) -> list[list[Recommendation]]:
        """Each user's list; at most `users_at_once` users."""
        return [self._list(history, k) for _, history in user_rows.known(connection, users)]

    def _list(self, history: History, k: int) -> list[Recommendation]:
        average = self._average_of(history) if self._average else None
        if average is None:
            return [
                replace(one, rank=rank)
                for rank, one in enumerate(_unread(self._popular, history, k), start=1)
            ]
        if self._by_cluster is None:
            found = self._index.candidates(average, k, history.item_ids)
            return assemble.ranked(found, average, k, "weighted-average")
        order = [*nearest_first(average, self._centres).tolist(), -1]
        by_nearness = (
            strategies.scored(one, nearer)
            for nearer, cluster in enumerate(order)
            for one in self._by_cluster[cluster]
        )
        listed = list(_unread(by_nearness, history, k))
        wanted = np.array([one.book_id for one in listed], dtype=np.int64)
        rows, known = positions(self._item_ids, wanted)
        vectors = dict(zip(wanted[known].tolist(), self._vectors[rows], strict=True))
        return strategies.finished(listed, average, vectors)

    def _average_of(self, history: History) -> NDArray[np.float64] | None:
        if self.model is None:
            return None
        telling = history.item_ids[: self.model.max_history]
        rows, known = positions(self._item_ids, telling)
        return weighted_average(self._vectors[rows], history.ratings[: len(telling)][known])


def _unread(found: Iterable[Recommendation], history: History, k: int) -> Iterator[Recommendation]:
    read = set(history.item_ids.tolist())
    return islice((one for one in found if one.book_id not in read), k)
