"""What a recommender has to beat: popularity, item-kNN and, for ratings, biases."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from tterec.ranking.histories import Met, met_by
from tterec.ranking.lists import PADDING
from tterec.records import Interactions

NEIGHBOURS = 50
"""On Book-Crossing's core 20, 100 and 300 gave NDCG@20 .0389, .0363 and .0359 with a shrinkage of
10; with 100, 20 and 50 gave .0471."""
SHRINKAGE = 100.0
"""With 50 neighbours 30 and 100 gave .0436 and .0471 there (0, with 100 neighbours: .0284), and
0, 10, 30 and 100 gave .589, .591, .591 and .590 on the demo's bookshop."""
# Products of pairs of interactions at a time: their sums take up to 500 MB.
_PRODUCTS_AT_ONCE = 2**24
DAMPING = 5.0
"""A mean counts as if it had so many more ratings that say nothing."""

Index = NDArray[np.int64]


def popularity(known: Interactions, item_ids: Index) -> Index:
    """How many users have met each item of the catalogue, int64 (items,); item_ids ascending."""
    if not len(item_ids):
        return np.zeros(0, dtype=np.int64)
    rows = np.searchsorted(item_ids, known.item_ids).clip(max=len(item_ids) - 1)
    return np.bincount(rows[item_ids[rows] == known.item_ids], minlength=len(item_ids))


def popular_lists(popular: Index, met: Met, item_ids: Index, k: int) -> Index:
    """The k most popular items that each user has not met: item ids (users, k), padded with -1.

    popular: (items,); equally popular ones rank by id.
    """
    order = np.argsort(-popular, kind="stable")
    lists = np.full((len(met), k), PADDING, dtype=np.int64)
    for user in range(len(met)):
        _fill(lists[user], np.empty(0, dtype=np.int64), order, met.of(user), item_ids)
    return lists


def item_neighbours(
    known: Interactions,
    item_ids: Index,
    neighbours: int = NEIGHBOURS,
    shrinkage: float = SHRINKAGE,
) -> sparse.csr_array:
    """Each item's nearest by the cosine of who has met them: sparse float64 (items, items).

    Row i holds the at most `neighbours` items nearest to i, without i; ties by id. Of n_ij users
    who have met both, the cosine is n_ij / (√(n_i n_j) + shrinkage): items that one user alone
    has met are not the same item for that.
    """
    met = met_by(known, np.unique(known.user_ids), item_ids)
    matrix = met.matrix(np.ones(len(met.items)), len(item_ids))
    lengths = np.sqrt(np.bincount(met.items, minlength=len(item_ids)))
    columns = matrix.T.tocsr()
    # What a row costs: the sum, over the item's users, of how much each has met.
    costs = np.cumsum(columns @ np.diff(met.offsets).astype(np.float64))
    rows, nearest, values, start = [], [], [], 0
    while start < len(item_ids):
        spent = costs[start - 1] if start else 0.0
        end = max(int(np.searchsorted(costs, spent + _PRODUCTS_AT_ONCE)), start + 1)
        block = (columns[start:end] @ matrix).tocsr()
        block.sort_indices()
        for row in range(block.shape[0]):
            span = slice(block.indptr[row], block.indptr[row + 1])
            items, both = block.indices[span], block.data[span]
            other = items != start + row
            items, both = items[other], both[other]
            cosines = both / (lengths[start + row] * lengths[items] + shrinkage)
            best = _greatest(cosines, neighbours)
            rows.append(np.full(len(best), start + row))
            nearest.append(items[best])
            values.append(cosines[best])
        start = end
    shape = (len(item_ids), len(item_ids))
    if not rows:
        return sparse.csr_array(shape)
    places = (np.concatenate(rows), np.concatenate(nearest))
    return sparse.csr_array((np.concatenate(values), places), shape=shape)


def item_knn_lists(
    near: sparse.csr_array, popular: Index, met: Met, item_ids: Index, k: int
) -> Index:
    """The k items with the greatest summed cosines to what a user has met, not met themselves.

    near: what item_neighbours returns. Equal sums rank by popularity, then by id; what has no
    such neighbour follows by popularity alone. Item ids (users, k), padded with -1.
    """
    scores = (met.matrix(np.ones(len(met.items)), len(item_ids)) @ near).tocsr()
    order = np.argsort(-popular, kind="stable")
    lists = np.full((len(met), k), PADDING, dtype=np.int64)
    for user in range(len(met)):
        span = slice(scores.indptr[user], scores.indptr[user + 1])
        items, sums = scores.indices[span].astype(np.int64), scores.data[span].round(9)
        new = ~np.isin(items, met.of(user))
        items, sums = items[new], sums[new]
        best = items[np.lexsort((items, -popular[items], -sums))[:k]]
        _fill(lists[user], best, order, met.of(user), item_ids)
    return lists


def bias_predictions(known: Interactions, user_ids: Index, item_ids: Index) -> NDArray[np.float64]:
    """Predicted ratings of pairs, (n,): the mean, the item's and the user's difference from it.

    Both are damped (Koren 2009, without the fitting). NaN where nothing is rated.
    """
    rated = ~np.isnan(known.ratings)
    ratings = known.ratings[rated].astype(np.float64)
    if not len(ratings):
        return np.full(len(user_ids), np.nan)
    mean = ratings.mean()
    items, item_row = np.unique(known.item_ids[rated], return_inverse=True)
    users, user_row = np.unique(known.user_ids[rated], return_inverse=True)
    of_items = _damped_means(ratings - mean, item_row, len(items))
    of_users = _damped_means(ratings - mean - of_items[item_row], user_row, len(users))
    predicted: NDArray[np.float64] = mean + _looked_up(item_ids, items, of_items)
    return predicted + _looked_up(user_ids, users, of_users)


def _damped_means(values: NDArray[np.float64], row: Index, rows: int) -> NDArray[np.float64]:
    totals = np.bincount(row, weights=values, minlength=rows)
    means: NDArray[np.float64] = totals / (np.bincount(row, minlength=rows) + DAMPING)
    return means


def _looked_up(ids: Index, known: Index, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The value of each id; 0 for those that are not known."""
    rows = np.searchsorted(known, ids).clip(max=len(known) - 1)
    return np.where(known[rows] == ids, values[rows], 0.0)


def _fill(into: Index, first: Index, order: Index, met: Index, item_ids: Index) -> None:
    """Write the rows `first`, then those of `order` that are neither there nor met, as ids."""
    k = len(into)
    if len(first) < k:
        candidates = order[: k + len(first) + len(met)]
        rest = candidates[~np.isin(candidates, np.concatenate([first, met]))]
        first = np.concatenate([first, rest[: k - len(first)]])
    into[: len(first)] = item_ids[first]


def _greatest(values: NDArray[np.float64], most: int) -> Index:
    """Places of the greatest values, at most so many; equal ones by place."""
    if len(values) <= most:
        return np.arange(len(values))
    least = np.partition(values, len(values) - most)[len(values) - most]
    places = np.flatnonzero(values >= least)
    return places[np.argsort(-values[places], kind="stable")[:most]]
