"""Splits of interactions into those to learn from and those to judge by."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

MOST_HELD_OUT = 0.1
"""Validation takes at most this share of all interactions: small shops need theirs to learn."""


def validation_split(
    user_ids: NDArray[np.int64],
    ratings: NDArray[np.float32],
    *,
    users: int,
    seed: int,
    rated_only: bool = False,
    among: NDArray[np.bool_] | None = None,
) -> NDArray[np.bool_]:
    """Choose one held-out interaction each of up to `users` users: bool (interactions,).

    user_ids: int64 (n,); ratings: float32 (n,), NaN where unrated. Users with 3 or more
    interactions are drawn, those with 2 only where there are no others, so that a history is
    left. Of a user's interactions a liked one is drawn (unrated, or rated at least the user's
    mean), because lists are judged by what people like; with `rated_only` any rated one, without
    regard to liking, because predicted ratings are judged. With `among` (n,) only those where it
    is true are drawn, and at most a share of them. Deterministic by seed; the order of
    the interactions matters, nothing else.
    """
    n = len(user_ids)
    held_out = np.zeros(n, dtype=bool)
    drawable = n if among is None else int(np.count_nonzero(among))
    users = min(users, int(drawable * MOST_HELD_OUT))
    if users < 1:
        return held_out
    rng = np.random.default_rng(seed)
    _, user, counts = np.unique(user_ids, return_inverse=True, return_counts=True)
    rated = ~np.isnan(ratings)
    eligible = rated if rated_only else ~rated | (ratings >= _user_means(user, ratings, rated))
    if among is not None:
        eligible &= among
    least = 3 if np.any(counts[user[eligible]] >= 3) else 2
    candidates = np.flatnonzero(eligible & (counts[user] >= least))
    # The first of each user in a random order is a uniform draw among the user's candidates.
    candidates = candidates[rng.permutation(len(candidates))]
    drawn, first = np.unique(user[candidates], return_index=True)
    chosen = rng.permutation(len(drawn))[:users]
    held_out[candidates[first[chosen]]] = True
    return held_out


def _user_means(
    user: NDArray[np.int64], ratings: NDArray[np.float32], rated: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Each interaction's user's mean rating, float64 (n,); NaN where the user rated nothing."""
    size = int(user.max()) + 1
    totals = np.bincount(user[rated], weights=ratings[rated], minlength=size)
    counts = np.bincount(user[rated], minlength=size)
    means = np.full(size, np.nan)
    np.divide(totals, counts, out=means, where=counts > 0)
    # Rounding must not turn "at least the mean" false for a user who rates all books the same.
    per_interaction: NDArray[np.float64] = means[user] - 1e-6
    return per_interaction
