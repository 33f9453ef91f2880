"""How long pgvector takes to build its index, measured on a copy that vanishes."""

from __future__ import annotations

import time

from psycopg import errors as pg
from psycopg import sql

from tterec.database import memory
from tterec.database.connection import Connection
from tterec.database.pgvector import extension_schema
from tterec.store.vector_tables import raise_build_memory, table


def build_seconds(connection: Connection, generation: int, count: int, dim: int) -> float | None:
    """Seconds of building a generation's HNSW index anew; nothing of it stays.

    None where this role or this server, a replica, may make no temporary table.
    """
    copied = sql.SQL(
        "CREATE TEMPORARY TABLE tterec_index_build ON COMMIT DROP AS SELECT embedding FROM {}"
    ).format(table("item_vectors", generation))
    built = sql.SQL(
        "CREATE INDEX ON tterec_index_build USING hnsw (embedding {}.vector_ip_ops)"
        " WITH (m = {}, ef_construction = {})"
    ).format(
        extension_schema(connection),
        sql.Literal(memory.HNSW_M),
        sql.Literal(memory.HNSW_EF_CONSTRUCTION),
    )
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(copied)
            raise_build_memory(connection, memory.hnsw_build_bytes(count, dim, memory.HNSW_M))
            began = time.perf_counter()
            connection.execute(built)
            return time.perf_counter() - began
    except (pg.ReadOnlySqlTransaction, pg.InsufficientPrivilege, pg.DiskFull, pg.OutOfMemory):
        return None
