"""Metrics of ranked lists and of predicted ratings, per user, before any mean.

Ranked lists are item ids, best first, one row a user: int64 (users, length), padded with -1
where a list is shorter. Relevance is binary: `relevant` holds one collection of item ids a user.
A user without relevant items has no defined value: NaN, to be left out of a mean (np.nanmean).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tterec.errors import InvalidArgument

PADDING = -1


def ndcg_at_k(
    ranked: NDArray[np.int64], relevant: Sequence[Collection[int]], k: int
) -> NDArray[np.float64]:
    """Normalised discounted cumulative gain of the first k, 0-1, shape (users,).

    Σ hit_r / log2(r + 1) over ranks r = 1..k, divided by its greatest possible value
    (Järvelin & Kekäläinen 2002, with binary gain).
    """
    hits = hits_at_k(ranked, relevant, k)
    discounts = 1.0 / np.log2(np.arange(2, k + 2))
    best = np.concatenate([[0.0], np.cumsum(discounts)])
    ideal = best[np.minimum(_counts(relevant), k)]
    return _ratio(hits @ discounts, ideal)


def recall_at_k(
    ranked: NDArray[np.int64], relevant: Sequence[Collection[int]], k: int
) -> NDArray[np.float64]:
    """Share of a user's relevant items that are among the first k, 0-1, shape (users,)."""
    return _ratio(hits_at_k(ranked, relevant, k).sum(axis=1), _counts(relevant))


def precision_at_k(
    ranked: NDArray[np.int64], relevant: Sequence[Collection[int]], k: int
) -> NDArray[np.float64]:
    """Share of the k places that hold relevant items, 0-1, shape (users,)."""
    hits = hits_at_k(ranked, relevant, k).sum(axis=1)
    return _ratio(hits, np.where(_counts(relevant) > 0, k, 0))


def average_precision_at_k(
    ranked: NDArray[np.int64], relevant: Sequence[Collection[int]], k: int
) -> NDArray[np.float64]:
    """Mean over the relevant items of the precision at their rank, 0-1, shape (users,).

    Divided by min(k, number of relevant items), so that a perfect list has 1.
    """
    hits = hits_at_k(ranked, relevant, k)
    precisions = np.cumsum(hits, axis=1) / np.arange(1, k + 1)
    return _ratio((hits * precisions).sum(axis=1), np.minimum(_counts(relevant), k))


def reciprocal_rank(
    ranked: NDArray[np.int64], relevant: Sequence[Collection[int]], k: int
) -> NDArray[np.float64]:
    """One over the rank of the first relevant item among the first k, else 0, shape (users,)."""
    hits = hits_at_k(ranked, relevant, k)
    first = np.where(hits.any(axis=1), 1.0 / (hits.argmax(axis=1) + 1), 0.0)
    return np.where(_counts(relevant) > 0, first, np.nan)


def hit_rate_at_k(
    ranked: NDArray[np.int64], relevant: Sequence[Collection[int]], k: int
) -> NDArray[np.float64]:
    """1 if a relevant item is among the first k, else 0, shape (users,)."""
    hit = hits_at_k(ranked, relevant, k).any(axis=1).astype(np.float64)
    return np.where(_counts(relevant) > 0, hit, np.nan)


def ndcg_of_ranks(ranks: NDArray[np.integer], k: int) -> NDArray[np.float64]:
    """NDCG@k of users with one relevant item each, from its rank (1: first): (users,)."""
    gains: NDArray[np.float64] = np.where(ranks <= k, 1.0 / np.log2(ranks + 1.0), 0.0)
    return gains


def hits_at_k(
    ranked: NDArray[np.int64], relevant: Sequence[Collection[int]], k: int
) -> NDArray[np.bool_]:
    """Whether each of the first k places holds a relevant item: bool (users, k)."""
    if k < 1:
        raise InvalidArgument(f"k = {k} is out of range; a metric needs k of at least 1")
    if len(ranked) != len(relevant):
        raise InvalidArgument(
            f"{len(ranked)} ranked lists but {len(relevant)} users' relevant items; pass one each"
        )
    hits = np.zeros((len(ranked), k), dtype=bool)
    for row, (items, wanted) in enumerate(zip(ranked[:, :k].tolist(), relevant, strict=True)):
        known = set(wanted)
        hits[row, : len(items)] = [item != PADDING and item in known for item in items]
    return hits


def coverage(ranked: NDArray[np.int64], catalogue: int) -> float:
    """Share of a catalogue of that many items which is in at least one list, 0-1."""
    return len(np.unique(ranked[ranked != PADDING])) / catalogue if catalogue else float("nan")


def novelty(
    ranked: NDArray[np.int64],
    item_ids: NDArray[np.int64],
    popularity: NDArray[np.integer],
    users: int,
) -> NDArray[np.float64]:
    """Mean self-information of a list's items in bits, shape (users,); NaN for an empty list.

    That of an item which n of `users` users have met is -log2((n + 1) / (users + 1)): what nobody
    has met is most surprising, but not infinitely so (Vargas & Castells 2011). item_ids:
    ascending int64 (items,), with their popularity n (items,).
    """
    bits = -np.log2((popularity + 1.0) / (users + 1.0))
    return _list_means(ranked, bits[_rows(ranked, item_ids)])


def share_of(
    ranked: NDArray[np.int64], item_ids: NDArray[np.int64], chosen: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Share of a list that is among the chosen items, shape (users,); NaN for an empty list.

    item_ids: ascending int64 (items,); chosen: bool (items,).
    """
    return _list_means(ranked, chosen[_rows(ranked, item_ids)].astype(np.float64))


def rmse(predicted: NDArray[np.floating], actual: NDArray[np.floating]) -> float:
    """Root of the mean squared difference of predicted and actual ratings; NaN for none."""
    errors = _differences(predicted, actual)
    return float(np.sqrt(np.mean(errors**2))) if errors.size else float("nan")


def mae(predicted: NDArray[np.floating], actual: NDArray[np.floating]) -> float:
    """Mean absolute difference of predicted and actual ratings; NaN for none."""
    errors = _differences(predicted, actual)
    return float(np.mean(np.abs(errors))) if errors.size else float("nan")


def _differences(
    predicted: NDArray[np.floating], actual: NDArray[np.floating]
) -> NDArray[np.float64]:
    if predicted.shape != actual.shape:
        raise InvalidArgument(
            f"{predicted.shape} predictions for {actual.shape} ratings; pass one each"
        )
    difference: NDArray[np.float64] = predicted.astype(np.float64) - actual.astype(np.float64)
    return difference


def _rows(ranked: NDArray[np.int64], item_ids: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where in item_ids the items of the lists are; any place for padding."""
    return np.searchsorted(item_ids, ranked).clip(max=max(len(item_ids) - 1, 0))


def _list_means(ranked: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    listed = ranked != PADDING
    return _ratio(np.where(listed, values, 0.0).sum(axis=1), listed.sum(axis=1))


def _counts(relevant: Sequence[Collection[int]]) -> NDArray[np.int64]:
    return np.array([len(set(items)) for items in relevant], dtype=np.int64)


def _ratio(values: NDArray[np.number[Any]], whole: NDArray[np.number[Any]]) -> NDArray[np.float64]:
    result = np.full(len(values), np.nan)
    np.divide(values, whole, out=result, where=whole > 0)
    return result
