"""Lists by the simpler methods that recommenders are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol, get_args

import numpy as np
from numpy.typing import NDArray

from tterec import assemble, errors
from tterec.database.connection import Connection
from tterec.ranking import exact
from tterec.ranking.averages import nearest_first, weighted_average
from tterec.records import ClusterMethod, Clusters, Recommendation, Strategy
from tterec.retrieval import clusters as cluster_rows
from tterec.retrieval import pgvector
from tterec.retrieval.choice import Indexes
from tterec.retrieval.live_models import LiveModel
from tterec.retrieval.pgvector import Among
from tterec.retrieval.users import History

Index = NDArray[np.int64]

STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)


class Clustering(Protocol):
    """Clusters of items: centres float32 (c, d), and the ids of each one's items."""

    @property
    def centres(self) -> NDArray[np.float32]: ...

    def members(self, cluster: int) -> Index: ...

    def everything(self) -> Index:
        """The ids of all items that are in some cluster."""
        ...


class InMemory:
    """Clusters that are not stored."""

    def __init__(self, clusters: Clusters) -> None:
        self._clusters = clusters
        self.centres = clusters.centres

    def members(self, cluster: int) -> Index:
        members: Index = self._clusters.item_ids[self._clusters.labels == cluster]
        return members

    def everything(self) -> Index:
        return self._clusters.item_ids


def asked(found: cluster_rows.Stored | Clusters) -> Clustering:
    """Clusters, stored or not, to be asked for their items."""
    return InMemory(found) if isinstance(found, Clusters) else found


def method_of(strategy: str | None) -> ClusterMethod | None:
    """The method of clustering that a strategy needs. Raises InvalidArgument for an unknown one."""
    if strategy is not None and strategy not in STRATEGIES:
        raise errors.InvalidArgument(
            f"the strategy {strategy!r} is unknown; choose {', '.join(STRATEGIES)}"
        )
    by_strategy: dict[str | None, ClusterMethod] = {
        "cluster-kmeans": "kmeans",
        "cluster-gmm": "gmm",
    }
    return by_strategy.get(strategy)


def recommend(
    connection: Connection,
    strategy: Strategy,
    history: History,
    k: int,
    *,
    excluded: Index,
    indexes: Indexes,
    clustering: Clustering | None = None,
    among: Among | None = None,
) -> list[Recommendation]:
    """The k best books for a history by a strategy; popular ones where it has no vector.

    `clustering`: of the live generation, where the strategy needs one.
    """
    model = pgvector.live_model(connection)
    average = None
    if model is not None and strategy != "popular":
        average = average_of(connection, model, history)
    if model is None or average is None:
        return pgvector.popular(connection, model, k, excluded, among)
    if clustering is None:
        index = indexes.of(connection, model, among)
        candidates = index.candidates(average, k, excluded)
        return assemble.ranked(candidates, average, k, "weighted-average")
    return _popular_nearby(
        connection, model, clustering, average, k=k, excluded=excluded, among=among
    )


def average_of(
    connection: Connection, model: LiveModel, history: History
) -> NDArray[np.float64] | None:
    """The weighted average (d,) of the embeddings of the books met; None without any."""
    items = history.item_ids[: model.max_history]
    found = pgvector.item_vectors(connection, model, items) if len(items) else {}
    known = [place for place, item_id in enumerate(items.tolist()) if item_id in found]
    vectors = np.array([found[items[place]] for place in known]).reshape(-1, model.dim)
    return weighted_average(vectors, history.ratings[known])


def _popular_nearby(
    connection: Connection,
    model: LiveModel,
    clustering: Clustering,
    average: NDArray[np.float64],
    *,
    k: int,
    excluded: Index,
    among: Among | None,
) -> list[Recommendation]:
    """The most popular of the nearest cluster, then of the next ones, then of those in none."""
    listed: list[Recommendation] = []
    order = nearest_first(average, clustering.centres).tolist()
    for place, cluster in enumerate(order):
        if len(listed) >= k:
            break
        found = cluster_rows.popular_of(
            connection,
            model,
            clustering.members(cluster),
            k - len(listed),
            excluded,
            among=among,
        )
        listed += [scored(one, place) for one in found]
    if len(listed) < k:
        rest = np.union1d(excluded, clustering.everything())
        found = pgvector.popular(connection, model, k - len(listed), rest, among)
        listed += [scored(one, len(order)) for one in found]
    ids = np.array([one.book_id for one in listed], dtype=np.int64)
    return finished(listed, average, pgvector.item_vectors(connection, model, ids))


def scored(one: Recommendation, nearer: int) -> Recommendation:
    """A popular book with its score in a list by clusters: less 10 for each cluster nearer."""
    return replace(one, score=round(one.score - 10 * nearer, exact.DECIMALS))


def finished(
    listed: Sequence[Recommendation],
    average: NDArray[np.float64],
    vectors: dict[int, NDArray[np.float32]],
) -> list[Recommendation]:
    """Popular books as a list by clusters: ranks, and similarities where there is a vector."""
    done = []
    for rank, one in enumerate(listed, start=1):
        vector = vectors.get(one.book_id)
        similarity = (
            None if vector is None else float(exact.exact_scores(average, vector[None, :])[0])
        )
        done.append(replace(one, rank=rank, similarity=similarity, source="cluster"))
    return done
