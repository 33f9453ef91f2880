"""A user as the weighted average of the items met, and the order of clusters for them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tterec.ranking import exact


def rating_weights(ratings: NDArray[np.floating]) -> NDArray[np.float64]:
    """What each item counts in a weighted average, (n,): its rating.

    Of one without rating (NaN): the mean of the others, or 1 where none is rated. Where that
    would be 0 for all, 1 for all.
    """
    rated = ~np.isnan(ratings)
    values = ratings.astype(np.float64)
    weights = np.where(rated, values, values[rated].mean() if rated.any() else 1.0)
    return weights if weights.any() else np.ones(len(ratings))


def weighted_average(
    vectors: NDArray[np.floating], ratings: NDArray[np.floating]
) -> NDArray[np.float64] | None:
    """Σ r·e / Σ r of item embeddings (n, d) with ratings (n,), NaN where there is none: (d,).

    None without items, and where they cancel out.
    """
    if not len(ratings):
        return None
    weights = rating_weights(ratings)
    average: NDArray[np.float64] = weights @ vectors.astype(np.float64) / weights.sum()
    return average if average.any() else None


def nearest_first(vector: NDArray[np.floating], centres: NDArray[np.floating]) -> NDArray[np.int64]:
    """Clusters in the order of their centres' (c, d) distance from a vector (d,), as SQL has it.

    Squared distances to six decimals, equal ones by number.
    """
    # To Postgres a vector is float4.
    difference = centres.astype(np.float64) - vector.astype(np.float32).astype(np.float64)
    squares = np.sum(difference * difference, axis=1)
    return exact.rank(np.arange(len(centres)), -squares.round(exact.DECIMALS), len(centres))
