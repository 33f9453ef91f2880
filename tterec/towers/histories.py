"""Users' interactions, each user's in the order in which histories count them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tterec import arrays, grouping
from tterec.errors import TrainingError
from tterec.records import UNRATED_BUCKET, FeatureTable, Interactions
from tterec.towers.ragged import Index, offsets_of, spans


@dataclass(frozen=True)
class Histories:
    """Interactions grouped by user, in history order: newest, then highest rated, then item.

    The first `max_history` of a user are the user's history, as in serving. user_ids: int64
    (users,), ascending, and user_rows: int64 (users,), their rows in the users table, -1 for
    none. offsets: int64 (users + 1,), where each user's interactions start. items: int32 (n,),
    int64 where that is too narrow, rows in the items table. ratings: float32 (n,), NaN where
    unrated. buckets: uint8 (n,), 0-11. These three may lie in files.
    """

    user_ids: Index
    user_rows: Index
    offsets: Index
    items: NDArray[np.signedinteger]
    ratings: NDArray[np.float32]
    buckets: NDArray[np.uint8]
    max_history: int

    def __len__(self) -> int:
        return len(self.items)

    @property
    def users(self) -> int:
        """How many users there are."""
        return len(self.user_ids)

    @property
    def owners(self) -> Index:
        """Each interaction's user: int64 (n,)."""
        return np.repeat(np.arange(self.users), np.diff(self.offsets))

    def owners_of(self, positions: Index) -> Index:
        """The users of the interactions at these positions."""
        owners: Index = np.searchsorted(self.offsets, positions, side="right") - 1
        return owners

    def in_history(self, positions: Index, owners: Index) -> NDArray[np.bool_]:
        """Whether the interactions at these positions are in the histories of their users."""
        inside: NDArray[np.bool_] = positions - self.offsets[owners] < self.max_history
        return inside

    def item_counts(self, items: int) -> Index:
        """How many interactions there are with each of so many items: int64 (items,)."""
        counts = np.zeros(items, dtype=np.int64)
        for piece in arrays.pieces(len(self)):
            counts += np.bincount(self.items[piece], minlength=items)
        return counts

    def history_spans(self, users: Index) -> tuple[Index, Index]:
        """Positions of these users' histories, one after the other, and their lengths."""
        lengths = np.minimum(self.offsets[users + 1] - self.offsets[users], self.max_history)
        return spans(self.offsets[users], lengths), lengths

    def known_spans(self, users: Index) -> tuple[Index, Index]:
        """Positions of all these users' interactions, one after the other, and their counts."""
        lengths = self.offsets[users + 1] - self.offsets[users]
        return spans(self.offsets[users], lengths), lengths

    def select(self, keep: NDArray[np.bool_]) -> Histories:
        """Only these interactions; every user stays, if need be without any."""
        total = int(np.count_nonzero(keep))
        offsets = np.zeros(self.users + 1, dtype=np.int64)
        columns: tuple[NDArray[Any], ...] = (self.items, self.ratings, self.buckets)
        kept = [arrays.empty(total, column.dtype) for column in columns]
        at = 0
        for users in grouping.spans_of_users(self.offsets):
            part = slice(int(self.offsets[users.start]), int(self.offsets[users.stop]))
            places = np.flatnonzero(keep[part]) + part.start
            ends = self.offsets[users.start + 1 : users.stop + 1]
            offsets[users.start + 1 : users.stop + 1] = at + np.searchsorted(places, ends)
            for column, some in zip(columns, kept, strict=True):
                some[at : at + len(places)] = column[places]
            at += len(places)
        return Histories(
            user_ids=self.user_ids,
            user_rows=self.user_rows,
            offsets=offsets,
            items=kept[0],
            ratings=kept[1],
            buckets=kept[2],
            max_history=self.max_history,
        )

    def interactions(self, item_ids: Index) -> Interactions:
        """The interactions as they came, without their times; item_ids: those of the rows."""
        return Interactions(
            self.user_ids[self.owners],
            item_ids[self.items],
            self.ratings,
            np.full(len(self), np.nan),
        )


def gather_histories(
    interactions: Interactions, users: FeatureTable, items: FeatureTable, max_history: int
) -> Histories:
    """Group and order the interactions whose item is in the items table.

    Users that are in no table are kept. Of several interactions of one user with one item only
    the first in history order counts: a target must not find itself in its own history.
    Raises TrainingError if none is left.
    """
    if len(interactions) == 0:
        raise TrainingError("there are no interactions to learn from; load some: tterec load")
    n = len(interactions)
    kept = (
        arrays.empty(n, arrays.integers_below(len(items))),
        arrays.empty(n, np.float32),
        arrays.empty(n, np.uint8),
    )
    user_ids, counts = [], []
    at = 0
    for some in grouping.whole_users(interactions.user_ids):
        users_met, rows, ratings = _in_order(interactions, some, items.ids)
        for column, values in zip(kept, (rows, ratings, rating_buckets(ratings)), strict=True):
            column[at : at + len(rows)] = values
        at += len(rows)
        distinct, each = np.unique(users_met, return_counts=True)
        user_ids.append(distinct)
        counts.append(each)
    if at == 0:
        raise TrainingError(
            f"none of the {n:,} interactions is with an item of the items query; "
            "compare the item_id of both queries"
        )
    distinct = np.concatenate(user_ids)
    return Histories(
        user_ids=distinct,
        user_rows=rows_of(users.ids, distinct),
        offsets=offsets_of(np.concatenate(counts)),
        items=kept[0][:at],
        ratings=kept[1][:at],
        buckets=kept[2][:at],
        max_history=max_history,
    )


def _in_order(
    interactions: Interactions, some: slice | Index, item_ids: Index
) -> tuple[Index, Index, NDArray[np.float32]]:
    """Some users' interactions, each user's in history order: user ids, rows of items, ratings."""
    given = interactions.item_ids[some]
    rows = rows_of(item_ids, given)
    known = rows >= 0
    rows, given, user_ids = rows[known], given[known], interactions.user_ids[some][known]
    ratings, rated_at = interactions.ratings[some][known], interactions.rated_at[some][known]
    order = np.lexsort((given, _descending(ratings), _descending(rated_at), user_ids))
    order = order[_first_of_each(user_ids[order], rows[order])]
    return user_ids[order], rows[order], ratings[order].astype(np.float32)


def rating_buckets(ratings: NDArray[np.floating]) -> NDArray[np.uint8]:
    """The history weight that applies to each rating: floor(rating + 0.5), 11 where unrated."""
    rated = ~np.isnan(ratings)
    if np.any(rated & ~((ratings >= 0) & (ratings <= 10))):
        raise TrainingError("a rating is outside 0 to 10; let the interactions query scale it")
    buckets = np.full(len(ratings), UNRATED_BUCKET, dtype=np.uint8)
    buckets[rated] = np.floor(ratings[rated].astype(np.float64) + 0.5).astype(np.uint8)
    return buckets


def rows_of(table_ids: Index, ids: Index) -> Index:
    """Where ids stand in a table of ascending ids: int64 (n,), -1 for those it lacks."""
    if len(table_ids) == 0:
        return np.full(len(ids), -1, dtype=np.int64)
    rows = np.searchsorted(table_ids, ids).clip(max=len(table_ids) - 1)
    return np.where(table_ids[rows] == ids, rows, -1)


def _descending(values: NDArray[np.floating]) -> NDArray[np.float64]:
    """A key that sorts the greatest first and NaN last."""
    return -values.astype(np.float64)


def _first_of_each(users: Index, items: Index) -> Index:
    """Positions of the first entry of each (user, item), in order."""
    order = np.lexsort((np.arange(len(users)), items, users))
    new = np.ones(len(users), dtype=bool)
    new[1:] = (np.diff(users[order]) != 0) | (np.diff(items[order]) != 0)
    return np.sort(order[new])
