"""Lists of many users at once, from vectors held in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from tterec import assemble
from tterec.database.connection import Connection
from tterec.filters import Filters
from tterec.ranking import exact
from tterec.records import Recommendation, User
from tterec.retrieval import evidence, pgvector
from tterec.retrieval import users as user_rows
from tterec.retrieval.choice import Indexes
from tterec.retrieval.live_models import LiveModel
from tterec.retrieval.matrix import Index, Pairs, positions
from tterec.retrieval.pgvector import NO_ITEMS
from tterec.retrieval.users import History

if TYPE_CHECKING:
    from tterec.ranking.rules import Rules
    from tterec.ranking.second_stage import Stage

# What one query reads of users costs little less for fewer; more make products no faster.
_MOST_USERS_AT_ONCE = 1024
# Lines of lists, of some 200 bytes each.
_LINES_AT_ONCE = 2**17
# Pairs of user and item whose exact scores are computed at once: 8 MB of 64 dimensions.
_PAIRS_AT_ONCE = 2**14


class BulkLists(Protocol):
    """What has lists of many users: by the towers, or by a strategy."""

    model: LiveModel | None

    def users_at_once(self, k: int) -> int:
        """How many lists of k are made at once."""
        ...

    def recommend(
        self, connection: Connection, users: Sequence[User], k: int
    ) -> list[list[Recommendation]]:
        """Each user's list; at most `users_at_once` users."""
        ...


@dataclass(frozen=True)
class _Embedded:
    """Users with a vector, as `assemble.embed` has it: their places among those asked about,
    int64 (m,); vectors (m, d); whether they come from a history, bool (m,); what they have met."""

    places: Index
    vectors: NDArray[np.float64]
    by_history: NDArray[np.bool_]
    seen: list[History]

    def select(self, which: NDArray[np.bool_]) -> _Embedded:
        """Some of them."""
        seen = [self.seen[place] for place in np.flatnonzero(which).tolist()]
        return _Embedded(self.places[which], self.vectors[which], self.by_history[which], seen)


class Bulk:
    """What recommend_many holds in memory: a generation's item and history vectors, the items
    only that pass the filters, and its second stage."""

    def __init__(
        self,
        connection: Connection,
        ranker: bool,
        indexes: Indexes,
        filters: Filters | None = None,
    ) -> None:
        self.model = pgvector.live_model(connection)
        self._among = pgvector.among(connection, filters)
        self._stage: Stage | None = None
        if self.model is not None:
            self._index = indexes.of_catalogue(connection, self.model, self._among)
            self._history_ids, self._history_vectors = pgvector.all_history_vectors(
                connection, self.model
            )
            if ranker and self.model.ranking is not None:
                # SciPy takes a fifth of a second.
                from tterec.ranking.second_stage import Stage

                self._stage = Stage(evidence.ranker(connection, self.model, self.model.ranking))
                # The catalogue's rows among the second stage's, which filters do not narrow.
                ranked = self._stage.ranker.item_ids
                self._ranked = positions(ranked, self._index.items.item_ids)[0]
                self._rows = np.full(len(ranked), -1, dtype=np.int64)
                self._rows[self._ranked] = np.arange(len(self._ranked))

    def users_at_once(self, k: int) -> int:
        """How many lists of k are made at once."""
        return min(max(_LINES_AT_ONCE // max(k, 1), 1), _MOST_USERS_AT_ONCE)

    def recommend(
        self, connection: Connection, users: Sequence[User], k: int
    ) -> list[list[Recommendation]]:
        """Each user's list; at most `users_at_once` users."""
        found = user_rows.known(connection, users)
        lists: dict[int, list[Recommendation]] = {}
        if self.model is not None:
            embedded = self._embed(connection, self.model, found)
            two = embedded.by_history & (self._stage is not None)
            lists = self._nearest(embedded.select(~two), k)
            lists |= self._two_stages(embedded.select(two), k)
        seen = [history for _, history in found]
        rest = [place for place in range(len(users)) if place not in lists]
        if rest:
            most = k + max(len(seen[place].item_ids) for place in rest)
            popular = pgvector.popular(connection, self.model, most, NO_ITEMS, self._among)
            for place in rest:
                rated = set(seen[place].item_ids.tolist())
                unseen = islice((one for one in popular if one.book_id not in rated), k)
                lists[place] = [replace(one, rank=n) for n, one in enumerate(unseen, start=1)]
        return [lists[place] for place in range(len(users))]

    def _embed(
        self, connection: Connection, model: LiveModel, found: Sequence[tuple[int | None, History]]
    ) -> _Embedded:
        seen = [history for _, history in found]
        owners, items, ratings = _flat(seen, model.max_history)
        rows, known = positions(self._history_ids, items)
        counts = np.bincount(owners[known], minlength=len(seen))
        stored = user_rows.profiles(connection, model, [i for i, _ in found if i is not None])
        profiles = np.tile(model.default_profile, (len(seen), 1))
        something = counts > 0
        for place, (user_id, _) in enumerate(found):
            if user_id in stored:
                profiles[place], something[place] = stored[user_id], True
        vectors = exact.user_vectors(
            profiles,
            rows,
            np.concatenate([[0], np.cumsum(counts)]),
            ratings[known],
            history_vectors=self._history_vectors,
            history_weights=model.history_weights,
            normalised=model.normalised,
        )
        something &= vectors.any(axis=1)
        everybody = _Embedded(np.arange(len(seen)), vectors, counts > 0, seen)
        return everybody.select(something)

    def _excluded(self, embedded: _Embedded) -> Pairs:
        owners, items, _ = _flat(embedded.seen)
        rows, present = positions(self._index.items.item_ids, items)
        return Pairs(owners[present], rows)

    def _scores(self, embedded: _Embedded, pairs: Pairs) -> NDArray[np.float64]:
        """The similarity of each pair of user and item."""
        vectors, scores = self._index.items.vectors, np.empty(len(pairs))
        for start in range(0, len(pairs), _PAIRS_AT_ONCE):
            part = slice(start, start + _PAIRS_AT_ONCE)
            users = embedded.vectors[pairs.owners[part]]
            scores[part] = exact.exact_scores(users, vectors[pairs.rows[part]])
        return scores

    def _nearest(self, embedded: _Embedded, k: int) -> dict[int, list[Recommendation]]:
        near = self._index.nearest(embedded.vectors, k, self._excluded(embedded))
        similarities = self._scores(embedded, near)
        return self._listed(embedded, near, similarities, similarities, k)

    def _two_stages(self, embedded: _Embedded, k: int) -> dict[int, list[Recommendation]]:
        if self._stage is None or self.model is None or not len(embedded.places):
            return {}
        from tterec.ranking.histories import Met

        stage, items = self._stage, len(self._index.items)
        wanted, excluded = max(k, stage.ranker.candidates), self._excluded(embedded)
        near = self._index.nearest(embedded.vectors, wanted, excluded)
        nearest = exact.rank_each(near.owners, near.rows, self._scores(embedded, near), wanted)
        owners, telling, ratings = _flat(embedded.seen, self.model.max_history)
        met, known = positions(stage.ranker.item_ids, telling)
        owners, ratings = owners[known], ratings[known]
        # An item that a shop's query returns twice speaks once, with what tells most.
        cells = owners * len(stage.ranker.item_ids) + met
        first = np.sort(np.unique(cells, return_index=True)[1])
        owners, met, ratings = owners[first], met[first], ratings[first]
        offsets = np.searchsorted(owners, np.arange(len(embedded.places) + 1))
        history = Met(offsets, met, ratings)
        led_users, led = stage.led_by(history)
        there = self._rows[led] >= 0
        both = [
            near.owners[nearest] * items + near.rows[nearest],
            led_users[there] * items + self._rows[led[there]],
        ]
        cells = np.sort(np.concatenate(both))  # np.union1d hashes first, which takes longer
        allowed = np.diff(cells, prepend=-1) > 0
        allowed[positions(cells, excluded.owners * items + excluded.rows)[0]] = False
        candidates = Pairs(*np.divmod(cells[allowed], max(items, 1)))
        similarities = self._scores(embedded, candidates)
        spoken = stage.evidence_for(history, candidates.owners, self._ranked[candidates.rows])
        scores = exact.mixed_scores(similarities, spoken, stage.ranker.similarity_weight)
        return self._listed(embedded, candidates, scores, similarities, k)

    def _listed(
        self,
        embedded: _Embedded,
        pairs: Pairs,
        scores: NDArray[np.float64],
        similarities: NDArray[np.float64],
        k: int,
    ) -> dict[int, list[Recommendation]]:
        # Rows of the catalogue stand by item id, which equal scores rank by.
        order = exact.rank_each(pairs.owners, pairs.rows, scores, k)
        rows, scores, similarities = pairs.rows[order], scores[order], similarities[order]
        users = np.arange(len(embedded.places) + 1)
        bounds = np.searchsorted(pairs.owners[order], users).tolist()
        lists = {}
        for user, place in enumerate(embedded.places.tolist()):
            part = slice(bounds[user], bounds[user + 1])
            lists[place] = assemble.lines(
                self._index.items,
                rows[part],
                scores[part],
                similarities[part],
                "history" if embedded.by_history[user] else "profile",
            )
        return lists


def _flat(
    histories: Sequence[History], most: int | None = None
) -> tuple[Index, Index, NDArray[np.float32]]:
    """Owners, item ids and ratings (n,) of histories, of each at most so many that tell most."""
    items = [history.item_ids[:most] for history in histories]
    ratings = [history.ratings[:most] for history in histories]
    owners = np.repeat(np.arange(len(items)), [len(some) for some in items])
    return (
        owners,
        np.concatenate([NO_ITEMS, *items]),
        np.concatenate([np.zeros(0, np.float32), *ratings]),
    )


def depth(rules: Rules | None, k: int) -> int:
    """How many of the best a list of k is made from."""
    if rules is None or not rules.on:
        return k
    from tterec import listing

    return listing.depth(rules, k)


def spelled(connection: Connection, rules: Rules | None) -> Rules | None:
    """The rules with their ISBNs as the catalogue has them."""
    if rules is None or not rules.on:
        return rules
    from tterec import listing

    return listing.spelled(connection, rules)


def under_rules(
    connection: Connection, bulk: BulkLists, users: Sequence[User], k: int, rules: Rules
) -> list[list[Recommendation]]:
    """The k of each user's list under the rules."""
    from tterec import listing

    asked = listing.depth(rules, k)
    lists = bulk.recommend(connection, users, asked)
    # Together, for most users: one query a batch, not one a user.
    shared = listing.read_facts(connection, bulk.model, rules, chain.from_iterable(lists))
    listed = []
    for place, user_id in enumerate(user_rows.user_ids(connection, users)):

        def find(n: int, place: int = place) -> tuple[list[Recommendation], listing.Facts]:
            if n == asked:
                return lists[place], shared
            found = bulk.recommend(connection, [users[place]], n)[0]
            return found, listing.read_facts(connection, bulk.model, rules, found)

        listed.append(listing.under_rules(rules, k, user_id or 0, find))
    return listed
