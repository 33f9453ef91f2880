"""The user tower's sum, exact scores and their order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tterec.records import UNRATED_BUCKET

DECIMALS = 6
"""Scores are rounded to this many decimals before they are compared."""
MOST_VOICES = 16_000
"""A sparsevec of Postgres, in which SQL holds what speaks for a user's items, has no more."""


def user_vector(
    profile: NDArray[np.floating],
    history_vectors: NDArray[np.floating],
    ratings: NDArray[np.floating],
    history_weights: NDArray[np.floating],
    normalised: bool,
) -> NDArray[np.float64]:
    """A user's vector (d,): profile + Σ w(rating_i) history_i / √n, over its norm if `normalised`.

    profile (d,), history_vectors (n, d), ratings (n,) from 0 to 10 with NaN where there is none,
    history_weights (12,). A vector of zeros has no direction and stays as it is.
    """
    vector = profile.astype(np.float64)
    if len(ratings):
        weights = history_weights.astype(np.float64)[buckets(ratings)]
        weighted = weights[:, None] * history_vectors.astype(np.float64)
        vector = vector + weighted.sum(axis=0) / np.sqrt(len(ratings))
    norm = np.sqrt(np.sum(vector * vector))
    return vector / norm if normalised and norm > 0 else vector


def user_vectors(
    profiles: NDArray[np.floating],
    rows: NDArray[np.int64],
    offsets: NDArray[np.int64],
    ratings: NDArray[np.floating],
    *,
    history_vectors: NDArray[np.floating],
    history_weights: NDArray[np.floating],
    normalised: bool,
) -> NDArray[np.float64]:
    """The vectors (users, d) of many, each the same to the last bit as `user_vector` has it.

    profiles (users, d). User i has met rows[offsets[i] : offsets[i + 1]] of history_vectors
    (items, d), int64 (n,), with these ratings (n,).
    """
    weights = history_weights.astype(np.float64)[buckets(ratings)]
    lengths = np.diff(offsets)
    taste = np.zeros(profiles.shape)
    # One after the other, as a sum over rows is made: every user's first item, then the second.
    for place in range(int(lengths.max(initial=0))):
        users = np.flatnonzero(lengths > place)
        at = offsets[users] + place
        taste[users] += weights[at, None] * history_vectors[rows[at]].astype(np.float64)
    vectors: NDArray[np.float64] = profiles.astype(np.float64)
    vectors += taste / np.sqrt(np.maximum(lengths, 1))[:, None]
    if normalised:
        norms = np.sqrt(np.sum(vectors * vectors, axis=1, keepdims=True))
        vectors /= np.where(norms > 0, norms, 1.0)
    return vectors


def similarity_shares(
    profile: NDArray[np.floating],
    history_vectors: NDArray[np.floating],
    ratings: NDArray[np.floating],
    history_weights: NDArray[np.floating],
    *,
    normalised: bool,
    embedding: NDArray[np.floating],
) -> NDArray[np.float64]:
    """What each item met and, last, the profile add to the inner product with an item: (n + 1,).

    The arguments are those of `user_vector`, and the item's embedding (d,). The user's vector is
    linear in all of them but for its norm, by which each share is divided where `normalised`.
    """
    terms = profile.astype(np.float64)[None, :]
    if len(ratings):
        weights = history_weights.astype(np.float64)[buckets(ratings)] / np.sqrt(len(ratings))
        terms = np.concatenate([weights[:, None] * history_vectors.astype(np.float64), terms])
    norm = np.sqrt(np.square(terms.sum(axis=0)).sum()) if normalised else 1.0
    shares: NDArray[np.float64] = (terms * embedding.astype(np.float64)).sum(axis=1)
    return shares / norm if norm > 0 else shares


def buckets(ratings: NDArray[np.floating]) -> NDArray[np.int64]:
    """Index of each rating's weight: 0-10 rounded half up, UNRATED_BUCKET for NaN."""
    unrated = np.isnan(ratings)
    rounded = np.floor(np.where(unrated, 0.0, ratings) + 0.5)
    return np.where(unrated, UNRATED_BUCKET, rounded).astype(np.int64)


def exact_scores(
    user_vector: NDArray[np.floating], vectors: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Inner products (n,) of a vector (d,) with the rows of vectors (n, d), to six decimals.

    Also of n vectors (n, d), one a row. Each row is summed by itself in float64. A BLAS product
    sums a row in an order that depends on where it stands, so that identical rows would get
    different scores.
    """
    products = vectors.astype(np.float64, copy=False) * user_vector.astype(np.float64)
    # + 0.0 makes a negative zero positive.
    rounded: NDArray[np.float64] = products.sum(axis=1).round(DECIMALS) + 0.0
    return rounded


def loudest(
    places: NDArray[np.int64], voices: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The places (at most MOST_VOICES,) with the greatest voices, equal ones by place; both."""
    if len(places) <= MOST_VOICES:
        return places, voices
    kept = np.lexsort((places, -voices))[:MOST_VOICES]
    return places[kept], voices[kept]


def voices(ratings: NDArray[np.floating], unrated_weight: float) -> NDArray[np.float64]:
    """How much each item met counts as evidence, (n,): rating / 10, or `unrated_weight`."""
    return np.where(np.isnan(ratings), unrated_weight, ratings.astype(np.float64) / 10)


def evidence_sums(
    offsets: NDArray[np.int64],
    sources: NDArray[np.int64],
    weights: NDArray[np.floating],
    met: NDArray[np.int64],
    voices: NDArray[np.floating],
) -> NDArray[np.float64]:
    """What the items met say for each of n items: Σ voice · weight of those met, (n,).

    sources (w,) and weights (w,): those of item i from offsets[i] (n + 1,). met (m,), distinct,
    with how much each of them counts, voices (m,).
    """
    spoken = np.zeros(len(sources))
    if len(met):
        order = np.argsort(met)
        places = order[np.searchsorted(met, sources, sorter=order).clip(max=len(met) - 1)]
        known = met[places] == sources
        spoken[known] = weights[known].astype(np.float64) * voices[places[known]]
    sums = np.zeros(len(offsets) - 1)
    filled = np.flatnonzero(np.diff(offsets))  # reduceat has no empty sums
    if len(filled):
        sums[filled] = np.add.reduceat(spoken, offsets[filled])
    return sums


def spoken_shares(
    places: NDArray[np.int64],
    traits: Sequence[NDArray[np.int64]],
    voices: NDArray[np.float64],
    sources: NDArray[np.int64],
    weights: NDArray[np.floating],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """What each of m items met says for an item, by itself and by its traits: rows of the items met
    (p,), some more than once, with amounts (p,) whose sum is the item's evidence.

    places (m,), distinct, and traits, m times the places of its traits; voices (m,): how much each
    counts. sources (w,), ascending, and weights (w,): what speaks for the item. A trait counts with
    ln(1 + the sum of the voices that have it), and what it adds is split in proportion to them.
    """
    rows = np.arange(len(places))
    owners = np.append(rows, np.repeat(rows, [len(had) for had in traits]))
    spots, at = np.unique(np.concatenate([places, *traits]), return_inverse=True)
    sums = np.bincount(at, weights=voices[owners], minlength=len(spots))
    heard = np.where(np.isin(spots, places), sums, np.log1p(sums))
    audible = np.flatnonzero(heard > 0)
    kept, _ = loudest(spots[audible], heard[audible])
    said = np.zeros(len(spots))
    at_source = np.searchsorted(sources, spots).clip(max=max(len(sources) - 1, 0))
    known = sources[at_source] == spots if len(sources) else np.zeros(len(spots), dtype=bool)
    known &= np.isin(spots, kept)
    said[known] = heard[known] * weights[at_source[known]].astype(np.float64) / sums[known]
    amounts: NDArray[np.float64] = voices[owners] * said[at]
    return owners, amounts


def mixed_scores(
    similarities: NDArray[np.float64], evidence: NDArray[np.float64], similarity_weight: float
) -> NDArray[np.float64]:
    """The second stage's scores (n,), to six decimals."""
    rounded: NDArray[np.float64] = (similarity_weight * similarities + evidence).round(
        DECIMALS
    ) + 0.0
    return rounded


def rank(item_ids: NDArray[np.int64], scores: NDArray[np.float64], k: int) -> NDArray[np.int64]:
    """Positions (at most k,) of the greatest scores, best first; equal scores by item id."""
    return np.lexsort((item_ids, -scores))[:k]


def rank_each(
    owners: NDArray[np.int64], item_ids: NDArray[np.int64], scores: NDArray[np.float64], k: int
) -> NDArray[np.int64]:
    """The same for each of many users, by `owners` (n,), one user after the other."""
    order = np.lexsort((item_ids, -scores, owners))
    ordered = owners[order]
    return order[np.arange(len(order)) - np.searchsorted(ordered, ordered) < k]
