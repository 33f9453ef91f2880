"""Users' interactions, each user's in the order in which histories count them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tterec.errors import TrainingError
from tterec.records import UNRATED_BUCKET, FeatureTable, Interactions
from tterec.towers.ragged import Index, offsets_of, spans


@dataclass(frozen=True)
class Histories:
    """Interactions grouped by user, in history order: newest, then highest rated, then item.

    The first `max_history` of a user are the user's history, as in serving. user_ids: int64
    (users,), ascending, and user_rows: int64 (users,), their rows in the users table, -1 for
    none. offsets: int64 (users + 1,), where each user's interactions start. items: int64 (n,),
    rows in the items table. ratings: float32 (n,), NaN where unrated. buckets: int64 (n,), 0-11.
    """

    user_ids: Index
    user_rows: Index
    offsets: Index
    items: Index
    ratings: NDArray[np.float32]
    buckets: Index
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

    @property
    def in_history(self) -> NDArray[np.bool_]:
        """Whether each interaction is in its user's history: bool (n,)."""
        places = np.arange(len(self)) - np.repeat(self.offsets[:-1], np.diff(self.offsets))
        return places < self.max_history

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
        counts = np.bincount(self.owners[keep], minlength=self.users)
        return Histories(
            user_ids=self.user_ids,
            user_rows=self.user_rows,
            offsets=offsets_of(counts),
            items=self.items[keep],
            ratings=self.ratings[keep],
            buckets=self.buckets[keep],
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
    item_rows = rows_of(items.ids, interactions.item_ids)
    known = item_rows >= 0
    if not known.any():
        raise TrainingError(
            f"none of the {len(interactions):,} interactions is with an item of the items query; "
            "compare the item_id of both queries"
        )
    item_rows, user_ids = item_rows[known], interactions.user_ids[known]
    ratings, rated_at = interactions.ratings[known], interactions.rated_at[known]
    order = np.lexsort(
        (interactions.item_ids[known], _descending(ratings), _descending(rated_at), user_ids)
    )
    order = order[_first_of_each(user_ids[order], item_rows[order])]
    distinct, counts = np.unique(user_ids[order], return_counts=True)
    return Histories(
        user_ids=distinct,
        user_rows=rows_of(users.ids, distinct),
        offsets=offsets_of(counts),
        items=item_rows[order],
        ratings=ratings[order].astype(np.float32),
        buckets=rating_buckets(ratings[order]),
        max_history=max_history,
    )


def rating_buckets(ratings: NDArray[np.floating]) -> Index:
    """The history weight that applies to each rating: floor(rating + 0.5), 11 where unrated."""
    rated = ~np.isnan(ratings)
    if np.any(rated & ~((ratings >= 0) & (ratings <= 10))):
        raise TrainingError("a rating is outside 0 to 10; let the interactions query scale it")
    buckets = np.full(len(ratings), UNRATED_BUCKET, dtype=np.int64)
    buckets[rated] = np.floor(ratings[rated].astype(np.float64) + 0.5).astype(np.int64)
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
