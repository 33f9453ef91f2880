"""Lists of many users in memory by weighted averages and by clusters."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tterec.ranking.averages import nearest_first, weighted_average
from tterec.ranking.histories import Met
from tterec.ranking.lists import PADDING, best_of
from tterec.records import Clusters

Index = NDArray[np.int64]


def average_lists(
    items: NDArray[np.float32], telling: Met, met: Met, item_ids: Index, k: int
) -> Index:
    """The k items nearest to each user's weighted average: item ids (users, k), padded with -1.

    items: embeddings (n, d) of `item_ids` (n,). The average is of the `telling`; nothing `met` is
    listed. Who has no average has no list.
    """
    lists = np.full((len(met), k), PADDING, dtype=np.int64)
    matrix = items.astype(np.float64)
    for user, average in enumerate(_averages(items, telling)):
        if average is None:
            continue
        scores = matrix @ average
        scores[met.of(user)] = -np.inf
        best = best_of(item_ids, scores, k)
        lists[user, : len(best)] = item_ids[best]
    return lists


def cluster_lists(
    clusters: Clusters,
    items: NDArray[np.float32],
    popular: Index,
    histories: tuple[Met, Met],
    k: int,
) -> Index:
    """The k most popular items of the clusters nearest to each user's weighted average.

    clusters: of all items, of which `items` (n, d) are the embeddings, and `popular` (n,) how many
    have met each; equally popular ones rank by id. histories: as of average_lists.
    """
    telling, met = histories
    lists = np.full((len(met), k), PADDING, dtype=np.int64)
    by_popularity = np.argsort(-popular, kind="stable")
    labels = clusters.labels[by_popularity]
    members = [by_popularity[labels == number] for number in range(len(clusters.centres))]
    for user, average in enumerate(_averages(items, telling)):
        if average is None:
            continue
        chosen: list[int] = []
        for cluster in nearest_first(average, clusters.centres).tolist():
            new = members[cluster][~np.isin(members[cluster], met.of(user))]
            chosen += new[: k - len(chosen)].tolist()
            if len(chosen) == k:
                break
        lists[user, : len(chosen)] = clusters.item_ids[chosen]
    return lists


def _averages(items: NDArray[np.float32], telling: Met) -> list[NDArray[np.float64] | None]:
    spans = zip(telling.offsets[:-1], telling.offsets[1:], strict=True)
    return [
        weighted_average(items[telling.items[start:end]], telling.ratings[start:end])
        for start, end in spans
    ]
