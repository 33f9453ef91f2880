"""Clusters of items that are stored, and what is popular in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tterec.database.connection import Connection
from tterec.records import ClusterMethod, Clusters, Recommendation
from tterec.retrieval.live_models import LiveModel
from tterec.retrieval.pgvector import Among, query

Index = NDArray[np.int64]


def centres(
    connection: Connection, model: LiveModel, method: ClusterMethod
) -> NDArray[np.float32] | None:
    """The centres (c, d) of a generation's clusters; None where none are stored."""
    rows = query(
        connection, "cluster_centres", generation=model.generation, method=method
    ).fetchall()
    return np.array([row[0] for row in rows], dtype=np.float32) if rows else None


@dataclass(frozen=True)
class Stored:
    """The stored clusters of a generation, asked within one transaction."""

    connection: Connection
    model: LiveModel
    method: ClusterMethod
    centres: NDArray[np.float32]

    def members(self, cluster: int) -> Index:
        """The ids of a cluster's items."""
        return self._ids("cluster_members", cluster=cluster)

    def everything(self) -> Index:
        """The ids of all items that are in some cluster, ascending."""
        return self._ids("cluster_items")

    def read(self) -> Clusters:
        """All of them, to be held in memory."""
        rows = self._rows("cluster_items")
        return Clusters(
            self.method,
            self.centres,
            np.array([row[0] for row in rows], dtype=np.int64),
            np.array([row[1] for row in rows], dtype=np.int64),
        )

    def _ids(self, name: str, **given: Any) -> Index:
        return np.array([row[0] for row in self._rows(name, **given)], dtype=np.int64)

    def _rows(self, name: str, **given: Any) -> list[tuple[Any, ...]]:
        return query(
            self.connection, name, generation=self.model.generation, method=self.method, **given
        ).fetchall()


def popular_of(
    connection: Connection,
    model: LiveModel,
    items: Index,
    k: int,
    excluded: Index,
    *,
    among: Among | None = None,
) -> list[Recommendation]:
    """The k most popular of some items, as of a generation, without the excluded."""
    rows = query(
        connection,
        "popular_of",
        among=among,
        generation=model.generation,
        items=items,
        excluded=excluded,
        k=k,
    ).fetchall()
    return [
        Recommendation(place, item_id, isbn, title, round(score, 6), None, "popular")
        for place, (item_id, isbn, title, score) in enumerate(rows, start=1)
    ]
