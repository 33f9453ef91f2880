"""Clusters of a generation's items."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from psycopg import errors as pg

from tterec import errors
from tterec.database.connection import Connection
from tterec.records import Clusters


def keep(connection: Connection, generation: int, clusters: Clusters) -> None:
    """Keep a generation's clusters by one method, instead of those that it had.

    Raises UnknownGeneration if the generation was pruned meanwhile.
    """
    with connection.transaction():
        # A prune waits for this lock, and removes what it finds then.
        row = connection.execute(
            "SELECT status FROM tterec.models WHERE generation = %s FOR NO KEY UPDATE",
            (generation,),
        ).fetchone()
        if row != ("ready",):
            raise errors.UnknownGeneration(
                f"generation {generation} is no longer there; run: tterec cluster"
            )
        _delete(connection, generation, clusters.method)
        with connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO tterec.clusters (generation, method, cluster, centre)"
                " VALUES (%s, %s, %s, %s)",
                [
                    (generation, clusters.method, number, centre)
                    for number, centre in enumerate(clusters.centres.tolist())
                ],
            )
            with cursor.copy(
                "COPY tterec.item_clusters (generation, method, item_id, cluster) FROM STDIN"
            ) as copy:
                for item_id, cluster in zip(
                    clusters.item_ids.tolist(), clusters.labels.tolist(), strict=True
                ):
                    copy.write_row((generation, clusters.method, item_id, cluster))


def keep_if_permitted(connection: Connection, generation: int, clusters: Clusters) -> bool:
    """As `keep`; False where this role or this server may not write, or the generation is gone."""
    try:
        keep(connection, generation, clusters)
    except (pg.InsufficientPrivilege, pg.ReadOnlySqlTransaction, errors.UnknownGeneration):
        return False
    return True


def follow(
    connection: Connection,
    generation: int,
    item_ids: NDArray[np.int64],
    embeddings: NDArray[np.float32],
) -> None:
    """Put items (n,) with new embeddings (n, d) in the cluster of the nearest centre, by every
    method that the generation has clusters by."""
    rows = connection.execute(
        "SELECT method, cluster, centre FROM tterec.clusters WHERE generation = %s"
        " ORDER BY method, cluster",
        (generation,),
    ).fetchall()
    for method in sorted({row[0] for row in rows}):
        mine = [row for row in rows if row[0] == method]
        centres = np.array([row[2] for row in mine], dtype=np.float64)
        # The square of the distance, less that of the embedding itself.
        distances = (centres**2).sum(axis=1) - 2 * embeddings.astype(np.float64) @ centres.T
        nearest = [mine[place][1] for place in distances.argmin(axis=1).tolist()]
        connection.execute(
            "INSERT INTO tterec.item_clusters (generation, method, item_id, cluster)"
            " SELECT %s, %s, * FROM unnest(%s::bigint[], %s::int[])"
            " ON CONFLICT (generation, method, item_id) DO UPDATE SET cluster = excluded.cluster",
            (generation, method, item_ids, nearest),
        )


def delete(connection: Connection, generation: int) -> None:
    """Delete a generation's clusters by all methods."""
    for method in ("kmeans", "gmm"):
        _delete(connection, generation, method)


def _delete(connection: Connection, generation: int, method: str) -> None:
    for table in ("clusters", "item_clusters"):
        connection.execute(
            f"DELETE FROM tterec.{table} WHERE generation = %s AND method = %s".encode(),
            (generation, method),
        )
