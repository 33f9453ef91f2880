"""Lists by strategy for a Recommender, with the clusters that some of them need."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tterec.database.connection import Connection, Database
from tterec.filters import Filters
from tterec.records import (
    ClusterMethod,
    Clusters,
    ProgressCallback,
    Recommendation,
    Strategy,
)
from tterec.retrieval import pgvector
from tterec.retrieval.choice import Indexes
from tterec.retrieval.live_models import LiveModel
from tterec.retrieval.pgvector import Among
from tterec.retrieval.users import History

if TYPE_CHECKING:
    from tterec.bulk_strategies import BulkStrategy


class StrategicLists:
    """What a Recommender asks for lists by a strategy; see `tterec.strategies`.

    Its modules are imported when they are asked for: a list by the towers needs none of them.
    """

    def __init__(self, database: Database, indexes: Indexes) -> None:
        self._database, self._indexes = database, indexes
        self._clusters: dict[tuple[int, ClusterMethod], Clusters] = {}  # that may not be stored

    def prepare(self, strategy: Strategy | None, progress: ProgressCallback) -> None:
        """Compute clusters where a strategy needs them and there are none."""
        if strategy is None:
            return
        from tterec import clustering, strategies

        method = strategies.method_of(strategy)
        if method is not None:
            clustering.prepare(self._database, self._clusters, method, progress)

    def recommend(
        self,
        connection: Connection,
        strategy: Strategy,
        history: History,
        k: int,
        *,
        excluded: NDArray[np.int64],
        among: Among | None,
    ) -> list[Recommendation]:
        """The k best books for a history."""
        from tterec import clustering, strategies

        method, model = strategies.method_of(strategy), pgvector.live_model(connection)
        found = None
        if method is not None and model is not None:
            found = strategies.asked(clustering.of(connection, model, method, self._clusters))
        return strategies.recommend(
            connection,
            strategy,
            history,
            k,
            excluded=excluded,
            indexes=self._indexes,
            clustering=found,
            among=among,
        )

    def bulk(
        self, connection: Connection, strategy: Strategy, filters: Filters | None
    ) -> BulkStrategy:
        """What has the lists of many users."""
        from tterec import clustering, strategies
        from tterec.bulk_strategies import BulkStrategy

        def clusters(connection: Connection, model: LiveModel) -> Clusters:
            method = strategies.method_of(strategy)
            assert method is not None
            return clustering.held(clustering.of(connection, model, method, self._clusters))

        return BulkStrategy(connection, strategy, clusters, pgvector.among(connection, filters))
