"""Clusters of a generation's items."""

from __future__ import annotations

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
