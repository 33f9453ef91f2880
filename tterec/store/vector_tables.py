"""A generation's own tables of vectors: their names, their making, their removal."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from psycopg import Error, sql
from psycopg import errors as pg

from tterec import errors
from tterec.database import ivf, memory, roles, vectors
from tterec.database.connection import Connection
from tterec.database.pgvector import extension_schema
from tterec.records import Progress, ProgressCallback, TrainedVectors, ignore
from tterec.store.stages import stage

# Each kind of table of dense vectors with its id column.
KINDS = {"item_vectors": "item_id", "history_vectors": "item_id", "user_vectors": "user_id"}
EVIDENCE = "item_evidence"
PROFILE = "profile_tokens"
TABLES = (*KINDS, EVIDENCE, PROFILE)

_POLL_SECONDS = 0.5

_NAME = re.compile(rf"(?:{'|'.join(TABLES)})_([1-9][0-9]*)")


def table(kind: str, generation: int) -> sql.Identifier:
    """The table of one kind of a generation's vectors: `tterec.item_vectors_7`."""
    return sql.Identifier("tterec", f"{kind}_{generation}")


def names(generation: int) -> list[str]:
    """The names of a generation's tables, whether or not they are there."""
    return [f"{kind}_{generation}" for kind in TABLES]


def create(
    connection: Connection,
    generation: int,
    trained: TrainedVectors,
    progress: ProgressCallback = ignore,
    watcher: Connection | None = None,
) -> None:
    """Create and fill the three tables, with keys, both indexes and statistics.

    Runs in the caller's transaction: a table that is made and filled in one needs neither
    a second look at its rows (FREEZE) nor a vacuum. `watcher`, another connection, is asked how
    far the index is. Raises TrainingError, before anything is written, if a vector is not finite.
    """
    contents = {
        "item_vectors": (trained.item_ids, trained.item_embeddings),
        "history_vectors": (trained.item_ids, trained.history_vectors),
        "user_vectors": (trained.user_ids, trained.profile_vectors),
    }
    for kind, (_, matrix) in contents.items():
        if not np.isfinite(matrix).all():
            raise errors.TrainingError(
                f"some {kind.replace('_', ' ')} are not finite: training diverged; "
                "lower learning_rate in train.toml and run: tterec train --config train.toml"
            )
    with connection.transaction():
        with stage(connection, "write vectors", progress):
            for kind, rows in contents.items():
                _fill(connection, kind, generation, rows, progress)
        with stage(connection, "build index", progress):
            _build_index(connection, generation, trained, progress, watcher)
            ivf.create_missing(connection, generation)
        for kind, key in KINDS.items():  # no plan depends on how the vectors are distributed
            connection.execute(
                sql.SQL("ANALYZE {} ({})").format(table(kind, generation), sql.Identifier(key))
            )


def _fill(
    connection: Connection,
    kind: str,
    generation: int,
    rows: tuple[NDArray[np.int64], NDArray[np.float32]],
    progress: ProgressCallback,
) -> None:
    ids, matrix = rows
    name = table(kind, generation)
    connection.execute(
        sql.SQL("CREATE TABLE {} ({} bigint NOT NULL, embedding {}.vector({}) NOT NULL)").format(
            name,
            sql.Identifier(KINDS[kind]),
            extension_schema(connection),
            sql.Literal(matrix.shape[1]),
        )
    )
    statement = sql.SQL("COPY {} FROM STDIN (FORMAT binary, FREEZE)").format(name)
    written, row_bytes = 0, 22 + 4 * matrix.shape[1]
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for block in vectors.to_copy(ids, matrix):
            copy.write(block)
            written += len(block)
            progress(
                Progress(f"write {kind.replace('_', ' ')}", written // row_bytes, total=len(ids))
            )
    finish(connection, name, KINDS[kind])


def finish(connection: Connection, name: sql.Identifier, *key: str) -> None:
    """Give a table that is filled its key, and the readers' role the right to read it."""
    columns = sql.SQL(", ").join(map(sql.Identifier, key))
    _build(connection, sql.SQL("ALTER TABLE {} ADD PRIMARY KEY ({})").format(name, columns))
    if roles.reader_exists(connection):
        connection.execute(
            sql.SQL("GRANT SELECT ON {} TO {}").format(name, sql.Identifier(roles.READER))
        )


def _build_index(
    connection: Connection,
    generation: int,
    trained: TrainedVectors,
    progress: ProgressCallback,
    watcher: Connection | None,
) -> None:
    # Not on halfvec: of 40,000 x 64 it was 16 MB instead of 21, as fast at the same ef_search (2.5
    # and 2.6 ms at 200), and found .9846 of the first 100 instead of .9860.
    statement = sql.SQL(
        "CREATE INDEX ON {} USING hnsw (embedding {}.vector_ip_ops)"
        " WITH (m = {}, ef_construction = {})"
    ).format(
        table("item_vectors", generation),
        extension_schema(connection),
        sql.Literal(memory.HNSW_M),
        sql.Literal(memory.HNSW_EF_CONSTRUCTION),
    )
    needed = memory.hnsw_build_bytes(len(trained.item_ids), trained.dim, memory.HNSW_M)
    raise_build_memory(connection, needed, progress)
    with _watched(connection, watcher, progress):
        _build(connection, statement, progress)


def _build(
    connection: Connection, statement: sql.Composed, progress: ProgressCallback = ignore
) -> None:
    """Build an index by several processes, or by one where what they would share is not there."""
    try:
        with connection.transaction():
            connection.execute(statement)
    except (pg.DiskFull, pg.OutOfMemory) as error:
        if isinstance(error, pg.DiskFull) and "shared memory" not in str(error):
            raise
        # A parallel build's memory is shared memory, of which a container may have 64 MB.
        progress(
            Progress(
                "index",
                message="Too little shared memory for a parallel index build; building with "
                "one process, which takes longer. See: tterec doctor",
            )
        )
        connection.execute("SET LOCAL max_parallel_maintenance_workers = 0")
        connection.execute(statement)


def raise_build_memory(
    connection: Connection, needed: int, progress: ProgressCallback = ignore
) -> None:
    """Set maintenance_work_mem to what the graph takes, if that is more, until the commit."""
    if needed > memory.MOST_BUILD_BYTES:
        progress(
            Progress(
                "index",
                message=f"The index wants {needed >> 20:,} MB to build quickly; it is given "
                f"{memory.MOST_BUILD_BYTES >> 20:,} MB unless maintenance_work_mem is higher.",
            )
        )
    memory.raise_maintenance_work_mem(connection, min(needed, memory.MOST_BUILD_BYTES))


@contextmanager
def _watched(
    connection: Connection, watcher: Connection | None, progress: ProgressCallback
) -> Iterator[None]:
    """While the block runs, report how far `connection` is with its index."""
    if watcher is None:
        yield
        return
    over = threading.Event()
    pid = connection.info.backend_pid

    def watch() -> None:
        while not over.wait(_POLL_SECONDS):
            try:
                row = watcher.execute(
                    "SELECT blocks_done, blocks_total FROM pg_stat_progress_create_index"
                    " WHERE pid = %s AND blocks_total > 0",
                    (pid,),
                ).fetchone()
            except Error:
                return  # a bar is not worth a build
            if row is not None:
                progress(Progress("build index", int(row[0]), total=int(row[1])))

    thread = threading.Thread(target=watch, name="tterec-index-progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def drop(connection: Connection, generation: int) -> None:
    """Drop a generation's tables, those that there are."""
    connection.execute(
        sql.SQL("DROP TABLE IF EXISTS {}").format(
            sql.SQL(", ").join(table(kind, generation) for kind in TABLES)
        )
    )


def generations_with_tables(connection: Connection) -> list[int]:
    """The generations of which any table exists, in the registry or not; ascending."""
    rows = connection.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = 'tterec'::regnamespace AND relkind = 'r'"
    ).fetchall()
    found = [_NAME.fullmatch(str(row[0])) for row in rows]
    return sorted({int(match[1]) for match in found if match})
