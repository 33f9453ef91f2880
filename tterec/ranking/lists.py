"""Ranked lists of many users in memory, by the rules by which serving makes each of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tterec.ranking import exact
from tterec.ranking.histories import met_by, user_vectors
from tterec.ranking.second_stage import Stage
from tterec.records import Interactions, TrainedModel

PADDING = -1
# Pairs of user and item that are scored at once: 64 MB of float64.
_PAIRS_AT_ONCE = 2**23


class Lists(NamedTuple):
    """A ranked list a user: item_ids int64 (users, k), padded with -1, and scores float64
    (users, k), NaN there."""

    item_ids: NDArray[np.int64]
    scores: NDArray[np.float64]


def ranked_lists(
    model: TrainedModel,
    known: Interactions,
    user_ids: NDArray[np.int64],
    k: int,
    *,
    ranker: bool = True,
) -> Lists:
    """The k best items of the whole catalogue for each of `user_ids` (users,).

    `known` holds the histories, of these users and possibly of others, in any order. What a user
    has met in it is left out. Without `ranker` the towers alone order the lists, as they do for
    users without a history.
    """
    vectors = model.vectors
    stage = Stage(model.ranker) if ranker and model.ranker is not None else None
    lists = Lists(
        np.full((len(user_ids), k), PADDING, dtype=np.int64), np.full((len(user_ids), k), np.nan)
    )
    items = vectors.item_embeddings.astype(np.float64)
    at_once = max(_PAIRS_AT_ONCE // max(len(items), 1), 1)
    for start in range(0, len(user_ids), at_once):
        users = user_ids[start : start + at_once]
        met = met_by(known, users, vectors.item_ids)
        scores = user_vectors(vectors, met, users) @ items.T
        lengths = np.diff(met.offsets)
        scores[np.repeat(np.arange(len(users)), lengths), met.items] = -np.inf
        if stage is not None:
            with_history = np.flatnonzero(lengths)
            history = met.newest(vectors.max_history).select(with_history)
            scores[with_history] = stage.scores(scores[with_history], history, k)
        for place, row in enumerate(scores, start=start):
            best = best_of(vectors.item_ids, row, k)
            lists.item_ids[place, : len(best)] = vectors.item_ids[best]
            lists.scores[place, : len(best)] = row[best]
    return lists


def best_of(item_ids: NDArray[np.int64], scores: NDArray[np.float64], k: int) -> NDArray[np.int64]:
    """Rows (at most k,) of the greatest finite scores, best first, equal ones by id."""
    rounded = scores.round(exact.DECIMALS)
    least = -np.inf
    if k < len(rounded):
        least = np.partition(rounded, len(rounded) - k)[len(rounded) - k] if k else np.inf
    rows = np.flatnonzero((rounded >= least) & (rounded > -np.inf))
    best: NDArray[np.int64] = rows[exact.rank(item_ids[rows], rounded[rows], k)]
    return best
