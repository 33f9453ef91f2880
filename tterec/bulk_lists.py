"""Lists of many users at once, from vectors held in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, islice
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from tterec import assemble
from tterec.database.connection import Connection
from tterec.filters import Filters
from tterec.ranking import exact
from tterec.records import Recommendation, Source, User
from tterec.retrieval import evidence, pgvector
from tterec.retrieval import users as user_rows
from tterec.retrieval.base import Candidates
from tterec.retrieval.choice import Indexes
from tterec.retrieval.matrix import positions
from tterec.retrieval.pgvector import NO_ITEMS, LiveModel
from tterec.retrieval.users import History

if TYPE_CHECKING:
    from tterec.ranking.rules import Rules
    from tterec.ranking.second_stage import Stage

# This many pairs of user and item are scored at once: 64 MB of float32.
_PAIRS_AT_ONCE = 2**24
_MOST_USERS_AT_ONCE = 1024


class BulkLists(Protocol):
    """What has lists of many users: by the towers, or by a strategy."""

    model: LiveModel | None

    def recommend(
        self, connection: Connection, users: Sequence[User], k: int
    ) -> list[list[Recommendation]]:
        """Each user's list; not too many users at once."""
        ...


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

    @property
    def users_at_once(self) -> int:
        """How many users fit into one matrix product."""
        items = len(self._index.items) if self.model else 0
        return min(max(_PAIRS_AT_ONCE // max(items, 1), 1), _MOST_USERS_AT_ONCE)

    def recommend(
        self, connection: Connection, users: Sequence[User], k: int
    ) -> list[list[Recommendation]]:
        """Each user's list; at most `users_at_once` users."""
        found = user_rows.known(connection, users)
        known = [user_id for user_id, _ in found if user_id is not None]
        seen = [history for _, history in found]
        embedded: dict[int, tuple[NDArray[np.float64], Source]] = {}
        if self.model is not None:
            profiles = user_rows.profiles(connection, self.model, known)
            for place, (user_id, history) in enumerate(found):
                profile = None if user_id is None else profiles.get(user_id)
                vector, source = self._embed(self.model, profile, history)
                if vector is not None:
                    embedded[place] = vector, source
        two = {place for place, (_, source) in embedded.items() if source == "history"}
        if self.model is None or self._stage is None:
            two = set()
        lists = self._nearest({i: embedded[i] for i in embedded if i not in two}, seen, k)
        lists |= self._two_stages({i: embedded[i][0] for i in two}, seen, k)
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
        self, model: LiveModel, profile: NDArray[np.float32] | None, history: History
    ) -> tuple[NDArray[np.float64] | None, Source]:
        items = history.item_ids[: model.max_history]
        ratings = history.ratings[: model.max_history]
        places, known = positions(self._history_ids, items)
        return assemble.embed(model, profile, self._history_vectors[places], ratings[known])

    def _nearest(
        self,
        embedded: dict[int, tuple[NDArray[np.float64], Source]],
        seen: Sequence[History],
        k: int,
    ) -> dict[int, list[Recommendation]]:
        if not embedded:
            return {}
        candidates = self._index.candidates_of_many(
            np.stack([vector for vector, _ in embedded.values()]),
            k,
            [seen[place].item_ids for place in embedded],
        )
        return {
            place: assemble.ranked(found, vector, k, source)
            for (place, (vector, source)), found in zip(embedded.items(), candidates, strict=True)
        }

    def _two_stages(
        self, embedded: dict[int, NDArray[np.float64]], seen: Sequence[History], k: int
    ) -> dict[int, list[Recommendation]]:
        if not embedded or self._stage is None or self.model is None:
            return {}
        from tterec.ranking.histories import Met

        stage, items = self._stage, self._index.items
        wanted = max(k, stage.ranker.candidates)
        excluded = [seen[place].item_ids for place in embedded]
        near = self._index.candidates_of_many(np.stack([*embedded.values()]), wanted, excluded)
        met, ratings = [], []
        for place in embedded:
            telling = seen[place].item_ids[: self.model.max_history]
            rows, known = positions(stage.ranker.item_ids, telling)
            # An item that a shop's query returns twice speaks once, with what tells most.
            first = np.sort(np.unique(rows, return_index=True)[1])
            met.append(rows[first])
            ratings.append(seen[place].ratings[: len(telling)][known][first])
        offsets = np.concatenate([[0], np.cumsum([len(rows) for rows in met])])
        spoken = stage.evidence(Met(offsets, np.concatenate(met), np.concatenate(ratings)))
        lists = {}
        for user, (place, vector) in enumerate(embedded.items()):
            nearest = exact.rank(
                near[user].item_ids, exact.exact_scores(vector, near[user].vectors), wanted
            )
            led = stage.ranker.item_ids[stage.led_by(met[user])]
            ids = np.union1d(near[user].item_ids[nearest], led)
            ids = np.setdiff1d(ids, excluded[user])
            rows = positions(items.item_ids, ids)[0]
            candidates = Candidates(
                items.item_ids[rows],
                [items.isbns[i] for i in rows],
                [items.titles[i] for i in rows],
                items.vectors[rows],
            )
            similarities = exact.exact_scores(vector, candidates.vectors)
            places = positions(stage.ranker.item_ids, candidates.item_ids)[0]
            scores = exact.mixed_scores(
                similarities, spoken[user, places], stage.ranker.similarity_weight
            )
            lists[place] = assemble.listed(candidates, scores, similarities, k, "history")
        return lists


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
