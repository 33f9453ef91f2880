"""The verb `cluster`: clusters of the live generation's item vectors, computed and stored."""

from __future__ import annotations

from tterec import errors
from tterec.database import schema
from tterec.database.connection import Connection, Database
from tterec.ranking import clusters as fitting
from tterec.records import ClusterMethod, Clusters, Progress, ProgressCallback, ignore
from tterec.retrieval import clusters as cluster_rows
from tterec.retrieval import pgvector
from tterec.retrieval.live_models import LiveModel
from tterec.store import clusters as store
from tterec.store.stages import stage

Memory = dict[tuple[int, ClusterMethod], Clusters]
"""Clusters that could not be stored, by generation and method."""


def cluster(
    database: Database,
    method: ClusterMethod = "kmeans",
    clusters: int | None = None,
    progress: ProgressCallback = ignore,
) -> tuple[int, Clusters]:
    """Cluster the live generation's items and store that, instead of what was stored; both.

    `clusters`: how many; None: as the elbow says. Raises NoActiveModel, InvalidArgument, and
    TterecError without scikit-learn.
    """
    database = database.of("cluster")
    model, found = _fitted(database, method, clusters, progress)
    with (
        database.connect(autocommit=True, patient=True) as connection,
        stage(connection, "store", progress),
    ):
        store.keep(connection, model.generation, found)
    return model.generation, found


def prepare(
    database: Database, memory: Memory, method: ClusterMethod, progress: ProgressCallback = ignore
) -> None:
    """Compute and store the live generation's clusters where there are none.

    In `memory` where this role, or this server, may not write. Says so by `progress`.
    """
    with database.connect() as connection:
        model = pgvector.live_model(connection)
        if model is None or (model.generation, method) in memory:
            return
        if cluster_rows.centres(connection, model, method) is not None:
            return
    _require_fitting()
    progress(
        Progress(
            "clusters",
            message=f"Generation {model.generation} has no clusters by {method} yet: computing.",
        )
    )
    model, found = _fitted(database, method, None, progress)
    with database.connect(autocommit=True, patient=True) as connection:
        stored = store.keep_if_permitted(connection, model.generation, found)
    if not stored:
        memory[model.generation, method] = found
    how = "stored" if stored else "not stored, as nothing may be written here"
    progress(Progress("clusters", message=f"{len(found.centres)} clusters, {how}."))


def of(
    connection: Connection, model: LiveModel, method: ClusterMethod, memory: Memory
) -> cluster_rows.Stored | Clusters:
    """A generation's clusters: stored ones, else those in `memory`, else computed into it."""
    centres = cluster_rows.centres(connection, model, method)
    if centres is not None:
        return cluster_rows.Stored(connection, model, method, centres)
    key = model.generation, method
    if key not in memory:  # promoted since `prepare`
        memory[key] = _fit(connection, model, method, None, ignore)
    return memory[key]


def held(found: cluster_rows.Stored | Clusters) -> Clusters:
    """Clusters, stored or not, in memory."""
    return found if isinstance(found, Clusters) else found.read()


def _fitted(
    database: Database, method: ClusterMethod, clusters: int | None, progress: ProgressCallback
) -> tuple[LiveModel, Clusters]:
    with database.connect() as connection:
        pgvector.prepare(connection)

        def work() -> tuple[LiveModel, Clusters]:
            schema.require_current(connection)
            model = pgvector.live_model(connection)
            if model is None:
                raise errors.NoActiveModel
            return model, _fit(connection, model, method, clusters, progress)

        return pgvector.in_snapshot(connection, work)


def _fit(
    connection: Connection,
    model: LiveModel,
    method: ClusterMethod,
    clusters: int | None,
    progress: ProgressCallback,
) -> Clusters:
    _require_fitting()
    with stage(connection, "read vectors", progress):
        items = pgvector.catalogue(connection, model)
    with stage(connection, "fit", progress):
        return fitting.fit_clusters(
            items.item_ids, items.vectors, method, clusters, progress=progress
        )


def _require_fitting() -> None:
    if not fitting.available():
        raise errors.TterecError(fitting.MISSING)
