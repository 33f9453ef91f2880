"""Splits of interactions into those to learn from and those to judge by."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tterec import arrays, grouping

MOST_HELD_OUT = 0.1
"""Validation takes at most this share of all interactions: small shops need theirs to learn."""


def validation_split(
    offsets: NDArray[np.int64],
    ratings: NDArray[np.float32],
    *,
    users: int,
    seed: int,
    rated_only: bool = False,
    among: NDArray[np.bool_] | None = None,
) -> NDArray[np.bool_]:
    """Choose one held-out interaction each of up to `users` users: bool (interactions,).

    offsets: int64 (all users + 1,), where each user's interactions start; ratings: float32 (n,),
    NaN where unrated. Users with 3 or more interactions are drawn, those with 2 only where there
    are no others, so that a history is left. Of a user's interactions a liked one is drawn
    (unrated, or rated at least the user's mean), because lists are judged by what people like;
    with `rated_only` any rated one, without regard to liking, because predicted ratings are judged.
    With `among` (n,) only those where it is true are drawn, and at most a share of them.
    Deterministic by seed; the order of the interactions matters, nothing else.
    """
    n = int(offsets[-1])
    held_out = np.zeros(n, dtype=bool)
    drawable = n if among is None else int(np.count_nonzero(among))
    users = min(users, int(drawable * MOST_HELD_OUT))
    if users < 1:
        return held_out
    rng = np.random.default_rng(seed)
    counts = np.diff(offsets)
    eligible = _eligible(offsets, ratings, rated_only, among)
    candidates, of_users = _candidates(offsets, eligible, counts >= 3)
    if not len(candidates):
        candidates, of_users = _candidates(offsets, eligible, counts >= 2)
    # The first of each user in a random order is a uniform draw among the user's candidates.
    order = arrays.empty(len(candidates), candidates.dtype)
    for piece in arrays.pieces(len(order)):
        order[piece] = np.arange(piece.start, piece.stop)
    rng.shuffle(order)
    place = arrays.empty(len(order), order.dtype)
    for piece in arrays.pieces(len(order)):
        place[order[piece]] = np.arange(piece.start, piece.stop)
    drawing = np.flatnonzero(np.diff(of_users))
    first = np.minimum.reduceat(place, of_users[drawing]) if len(drawing) else drawing
    chosen = rng.permutation(len(drawing))[:users]
    held_out[candidates[order[first[chosen]]]] = True
    return held_out


def _eligible(
    offsets: NDArray[np.int64],
    ratings: NDArray[np.float32],
    rated_only: bool,
    among: NDArray[np.bool_] | None,
) -> NDArray[np.bool_]:
    """Which interactions may be drawn, bool (n,), however many others their user has."""
    eligible: NDArray[np.bool_] = arrays.empty(len(ratings), np.bool_)
    for users in grouping.spans_of_users(offsets):
        part = slice(int(offsets[users.start]), int(offsets[users.stop]))
        rated = ~np.isnan(ratings[part])
        if not rated_only:
            lengths = np.diff(offsets[users.start : users.stop + 1])
            owners = np.repeat(np.arange(len(lengths)), lengths)
            rated = ~rated | (ratings[part] >= _user_means(owners, ratings[part], rated))
        eligible[part] = rated if among is None else rated & among[part]
    return eligible


def _candidates(
    offsets: NDArray[np.int64], eligible: NDArray[np.bool_], lending: NDArray[np.bool_]
) -> tuple[NDArray[np.integer], NDArray[np.int64]]:
    """The eligible interactions of those users who lend any, and where each user's start:
    (c,), (all users + 1,)."""
    found = arrays.Column(arrays.integers_below(len(eligible)))
    starts = np.zeros(len(offsets), dtype=np.int64)
    for users in grouping.spans_of_users(offsets):
        first, last = int(offsets[users.start]), int(offsets[users.stop])
        lengths = np.diff(offsets[users.start : users.stop + 1])
        kept = np.flatnonzero(eligible[first:last] & np.repeat(lending[users], lengths))
        bounds = offsets[users.start + 1 : users.stop + 1] - first
        starts[users.start + 1 : users.stop + 1] = len(found) + np.searchsorted(kept, bounds)
        found.append(kept + first)
    return found.array(), starts


def _user_means(
    user: NDArray[np.int64], ratings: NDArray[np.float32], rated: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Each interaction's user's mean rating, float64 (n,); NaN where the user rated nothing."""
    size = int(user.max(initial=-1)) + 1
    totals = np.bincount(user[rated], weights=ratings[rated], minlength=size)
    counts = np.bincount(user[rated], minlength=size)
    means = np.full(size, np.nan)
    np.divide(totals, counts, out=means, where=counts > 0)
    # Rounding must not turn "at least the mean" false for a user who rates all books the same.
    per_interaction: NDArray[np.float64] = means[user] - 1e-6
    return per_interaction
