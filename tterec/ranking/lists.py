"""Ranked lists of many users in memory, by the rules by which serving makes each of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tterec.ranking import exact
from tterec.ranking.histories import met_by, user_vectors
from tterec.records import Interactions, TrainedModel

PADDING = -1
# Pairs of user and item that are scored at once: 128 MB of float64.
_PAIRS_AT_ONCE = 2**24


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
    ranker: bool = True,  # noqa: ARG001
    exclude_known: bool = True,
) -> Lists:
    """The k best items of the whole catalogue for each of `user_ids` (users,).

    `known` holds the histories, of these users and possibly of others, in any order. What a user
    has met in it is left out, unless `exclude_known` is false. Without `ranker` the towers alone
    order the lists.
    """
    vectors = model.vectors
    met = met_by(known, user_ids, vectors.item_ids)
    embedded = user_vectors(vectors, met, user_ids)
    lists = Lists(
        np.full((len(user_ids), k), PADDING, dtype=np.int64), np.full((len(user_ids), k), np.nan)
    )
    items = vectors.item_embeddings.astype(np.float64)
    at_once = max(_PAIRS_AT_ONCE // max(len(items), 1), 1)
    for start in range(0, len(user_ids), at_once):
        scores = embedded[start : start + at_once] @ items.T
        for user, row in enumerate(scores, start=start):
            if exclude_known:
                row[met.of(user)] = -np.inf
            best = _best(vectors.item_ids, row, k)
            lists.item_ids[user, : len(best)] = vectors.item_ids[best]
            lists.scores[user, : len(best)] = row[best]
    return lists


def _best(item_ids: NDArray[np.int64], scores: NDArray[np.float64], k: int) -> NDArray[np.int64]:
    """Rows of the k greatest finite scores, best first, equal ones by id."""
    rounded = scores.round(exact.DECIMALS)
    if k < len(rounded):
        least = np.partition(rounded, len(rounded) - k)[len(rounded) - k] if k else np.inf
        rows = np.flatnonzero((rounded >= least) & (rounded > -np.inf))
    else:
        rows = np.flatnonzero(rounded > -np.inf)
    return rows[exact.rank(item_ids[rows], rounded[rows], k)]
