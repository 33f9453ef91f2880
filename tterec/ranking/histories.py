"""What users have met, as rows of the catalogue, the most telling first."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from tterec import arrays, grouping
from tterec.ranking import exact
from tterec.records import Interactions, TrainedVectors

Index = NDArray[np.int64]


@dataclass(frozen=True)
class Met:
    """Users' interactions with the items of a catalogue, each user's newest first, then the
    highest rated, then by item: user i's are rows offsets[i] to offsets[i + 1].

    offsets: int64 (users + 1,). items: int32 or int64 (n,), rows of the catalogue. ratings:
    float32 (n,), NaN where unrated. These two may lie in files.
    """

    offsets: Index
    items: NDArray[np.signedinteger]
    ratings: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def of(self, user: int) -> NDArray[np.signedinteger]:
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
    distinct, everybody = met_by_all(of_users(known, user_ids), item_ids)
    # One more, for those who have met nothing.
    offsets = np.append(everybody.offsets, everybody.offsets[-1])
    places = np.searchsorted(distinct, user_ids)
    found = grouping.among(user_ids, distinct)
    return Met(offsets, everybody.items, everybody.ratings).select(
        np.where(found, places, len(distinct))
    )


def met_by_all(
    known: Interactions, item_ids: Index, without: Interactions | None = None
) -> tuple[Index, Met]:
    """The users who have met anything of the catalogue, ascending, and what they have met; but not
    the pairs of user and item that are `without`."""
    n = len(known)
    items = arrays.empty(n, arrays.integers_below(len(item_ids)))
    ratings = arrays.empty(n, np.float32)
    user_ids, counts = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    at = 0
    for some in grouping.whole_users(known.user_ids):
        part = known.select(some)
        kept = grouping.among(part.item_ids, item_ids)
        if without is not None:
            kept &= ~paired(part, without)
        part = part.select(kept)
        # NaN, negated, still comes last.
        order = np.lexsort((part.item_ids, -part.ratings, -part.rated_at, part.user_ids))
        items[at : at + len(part)] = np.searchsorted(item_ids, part.item_ids[order])
        ratings[at : at + len(part)] = part.ratings[order]
        at += len(part)
        distinct, each = np.unique(part.user_ids, return_counts=True)
        user_ids.append(distinct)
        counts.append(each)
    return np.concatenate(user_ids), Met(_offsets(np.concatenate(counts)), items[:at], ratings[:at])


def of_users(known: Interactions, user_ids: Index) -> Interactions:
    """The interactions of these users alone."""
    wanted = np.unique(user_ids)
    rows = [
        np.flatnonzero(grouping.among(known.user_ids[piece], wanted)) + piece.start
        for piece in arrays.pieces(len(known))
    ]
    return known.select(np.concatenate([np.zeros(0, dtype=np.int64), *rows]))


def paired(interactions: Interactions, others: Interactions) -> NDArray[np.bool_]:
    """Which interactions (n,) are a pair of user and item that is among others, too: bool (n,)."""
    found = grouping.among(interactions.user_ids, np.unique(others.user_ids))
    pairs = set(zip(others.user_ids.tolist(), others.item_ids.tolist(), strict=True))
    rows = np.flatnonzero(found)
    some = interactions.user_ids[rows].tolist(), interactions.item_ids[rows].tolist()
    found[rows] = [pair in pairs for pair in zip(*some, strict=True)]
    return found


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
