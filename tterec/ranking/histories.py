"""What users have met, as rows of the catalogue, the most telling first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from tterec.ranking import exact
from tterec.records import Interactions, TrainedVectors

Index = NDArray[np.int64]


@dataclass(frozen=True)
class Met:
    """Users' interactions with the items of a catalogue, each user's newest first, then the
    highest rated, then by item: user i's are rows offsets[i] to offsets[i + 1].

    offsets: int64 (users + 1,). items: int64 (n,), rows of the catalogue. ratings: float32 (n,),
    NaN where unrated.
    """

    offsets: Index
    items: Index
    ratings: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def of(self, user: int) -> Index:
        """The rows of the catalogue that a user has met."""
        return self.items[self.offsets[user] : self.offsets[user + 1]]

    def newest(self, most: int) -> Met:
        """At most this many of each user's, the most telling."""
        lengths = np.diff(self.offsets)
        place = np.arange(len(self.items)) - np.repeat(self.offsets[:-1], lengths)
        kept = place < most
        return Met(_offsets(np.minimum(lengths, most)), self.items[kept], self.ratings[kept])

    def select(self, users: Index) -> Met:
        """Of these users alone, in their order."""
        starts, lengths = self.offsets[users], np.diff(self.offsets)[users]
        offsets = _offsets(lengths)
        place = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
        return Met(offsets, self.items[place], self.ratings[place])

    def matrix(self, values: NDArray[np.floating], items: int) -> sparse.csr_array:
        """values (n,) as a sparse matrix (users, items)."""
        return sparse.csr_array((values, self.items, self.offsets), shape=(len(self), items))


def met_by(known: Interactions, user_ids: Index, item_ids: Index) -> Met:
    """What each of `user_ids` (users,) has met of a catalogue with ascending `item_ids`.

    Interactions with items that the catalogue lacks are left out, and so are other users'.
    """
    rows = np.searchsorted(item_ids, known.item_ids).clip(max=max(len(item_ids) - 1, 0))
    kept = np.isin(known.user_ids, user_ids)
    kept &= item_ids[rows] == known.item_ids if len(item_ids) else False
    users, rows = known.user_ids[kept], rows[kept]
    ratings, rated_at = known.ratings[kept], known.rated_at[kept]
    # NaN, negated, still comes last.
    order = np.lexsort((item_ids[rows], -ratings, -rated_at, users))
    distinct, counts = np.unique(users, return_counts=True)
    everybody = Met(_offsets(counts), rows[order], ratings[order])
    # One more, for those who have met nothing.
    everybody = Met(np.append(everybody.offsets, len(rows)), everybody.items, everybody.ratings)
    places = np.searchsorted(distinct, user_ids)
    found = (
        distinct[places.clip(max=max(len(distinct) - 1, 0))] == user_ids if len(distinct) else False
    )
    return everybody.select(np.where(found, places, len(distinct)))


def user_vectors(vectors: TrainedVectors, met: Met, user_ids: Index) -> NDArray[np.float64]:
    """The user tower's vectors: (users, d); see `exact.user_vector` for the rule of each."""
    history = met.newest(vectors.max_history)
    lengths = np.maximum(np.diff(history.offsets), 1)
    weights = vectors.history_weights[exact.buckets(history.ratings)]
    weights = weights / np.sqrt(np.repeat(lengths, np.diff(history.offsets)))
    taste = history.matrix(weights, len(vectors.item_ids)) @ vectors.history_vectors.astype(float)
    profiles = np.tile(vectors.default_profile.astype(float), (len(user_ids), 1))
    if len(vectors.user_ids):
        by_id = np.argsort(vectors.user_ids)
        rows = np.searchsorted(vectors.user_ids, user_ids, sorter=by_id)
        rows = by_id[rows.clip(max=len(by_id) - 1)]
        known = vectors.user_ids[rows] == user_ids
        profiles[known] = vectors.profile_vectors[rows[known]]
    embedded: NDArray[np.float64] = profiles + taste
    if vectors.normalised:
        norms = np.linalg.norm(embedded, axis=1, keepdims=True)
        embedded /= np.where(norms > 0, norms, 1.0)
    return embedded


def _offsets(lengths: Index) -> Index:
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
