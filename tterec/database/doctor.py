"""What is wrong with a database, and what mends it."""

from __future__ import annotations

import json
from collections.abc import Iterator

from psycopg import sql

from tterec import errors
from tterec.config import TrainingConfig
from tterec.database import (
    buffers,
    disk,
    ivf,
    limits,
    listeners,
    memory,
    own_tables,
    pgvector,
    roles,
    schema,
    shared_memory,
)
from tterec.database.connection import Connection, Database
from tterec.database.findings import Finding, megabytes, value

__all__ = ["Finding", "examine"]

# Below it, reading all vectors costs the planner less than the index, and it is right.
_ROWS_WORTH_AN_INDEX = 10_000
# Who runs `tterec worker --once` every night has a queue in the evening.
_LONG_QUEUE = 10_000
_OLD_SECONDS = 36 * 3600
# With a worker a change waits for seconds, and during an update of everything for as long as that
# takes: of 20,000 books, all of them changed, two minutes, so of 270,000 half an hour.
_BEHIND_SECONDS = 3600


def examine(database: Database) -> list[Finding]:
    """All findings, problems first. Changes nothing; an unreachable server is a finding too, and
    so is one that refuses a question."""
    found: list[Finding] = []
    try:
        with database.connect() as connection:
            # Where shared memory is used up, several processes could not even look for what is.
            connection.execute("SET max_parallel_workers_per_gather = 0")
            for finding in _findings(connection, database):
                found.append(finding)  # one by one: those before an error count
    except errors.DatabaseError as error:
        what, known, mend = str(error).rpartition("; ")
        found.append(Finding(True, what or mend, mend if known else "look into the server's log"))
    return sorted(found, key=lambda finding: not finding.problem)


def _findings(connection: Connection, database: Database) -> Iterator[Finding]:
    yield from limits.connections(connection)
    yield from limits.statements(connection)
    yield from shared_memory.of_queries(connection, database)
    no_vectors = list(_pgvector(connection))
    yield from no_vectors
    old_schema = list(_schema(connection))
    yield from old_schema
    if no_vectors or old_schema:
        return  # the rest asks tables and types that may not be there
    differences = schema.differences(database)
    for difference in differences:
        yield Finding(True, difference, "tterec db upgrade; tables: restore them from a backup")
    if not differences:
        cannot_be_read = list(own_tables.unreadable(connection))
        yield from cannot_be_read
        if not cannot_be_read:
            yield from own_tables.unindexed(connection)
    missing = roles.missing_reader(connection)
    if missing is not None:
        yield Finding(
            False,
            f"there is no role {roles.READER} for other programs to read with",
            f"a DBA may run: {missing}",
        )
    row = connection.execute(
        "SELECT generation, dim FROM tterec.active_model JOIN tterec.models USING (generation)"
    ).fetchone()
    if row is None:
        yield Finding(False, "no generation is live: everybody gets popular books", "tterec train")
        items = value(connection, "SELECT count(*) FROM tterec.source_items")
        yield from _build_memory(connection, database, int(items), TrainingConfig().dim)
        needed = disk.estimated_bytes(int(items), TrainingConfig().dim)
        yield from disk.room(connection, database, needed)
        return
    generation, dim = int(row[0]), int(row[1])
    table = sql.Identifier("tterec", f"item_vectors_{generation}")
    if value(connection, "SELECT to_regclass(%s)", table.as_string(connection)) is None:
        yield Finding(
            True,
            f"the vectors of the live generation {generation} are gone",
            "tterec models rollback, or: tterec train",
        )
        return
    rows = int(value(connection, sql.SQL("SELECT count(*) FROM {}").format(table)))
    yield from _queue(connection)
    yield from _index(connection, generation, rows)
    yield from buffers.of_serving(connection, generation)
    yield from _build_memory(connection, database, rows, dim)
    yield from disk.room(connection, database, disk.generation_bytes(connection, generation))


def _pgvector(connection: Connection) -> Iterator[Finding]:
    found = pgvector.installed(connection)
    oldest = ".".join(map(str, pgvector.OLDEST))
    offered = value(
        connection, "SELECT max(default_version) FROM pg_available_extensions WHERE name = 'vector'"
    )
    if found is None and offered is None:
        yield Finding(True, "this server has no pgvector", pgvector.INSTALL)
    elif found is None:
        yield Finding(True, "pgvector is not installed in this database", "tterec db upgrade")
    elif pgvector.version(found) < pgvector.OLDEST:
        newer = offered is not None and pgvector.version(offered) >= pgvector.OLDEST
        yield Finding(
            True,
            f"pgvector is {found}; tterec needs {oldest} or newer",
            "a DBA must run: ALTER EXTENSION vector UPDATE" if newer else pgvector.INSTALL,
        )


def _schema(connection: Connection) -> Iterator[Finding]:
    try:
        with connection.transaction():
            schema.require_current(connection)
    except errors.TterecError as error:
        what, _, mend = str(error).rpartition("; ")
        yield Finding(True, what, mend.removeprefix("run: "))


def _queue(connection: Connection) -> Iterator[Finding]:
    """Changes that wait, and nobody who would take them, or nobody who keeps up."""
    row = connection.execute(
        "SELECT count(*), extract(epoch FROM clock_timestamp() - min(queued_at))::float8"
        " FROM tterec.changes"
    ).fetchone()
    assert row is not None
    rows, seconds = int(row[0]), float(row[1] or 0)
    # A replica sees the queue, but not who listens on the primary.
    if value(connection, "SELECT pg_is_in_recovery()"):
        return
    waiting = "1 change waits" if rows == 1 else f"{rows:,} changes wait"
    waiting += f" in the queue, the oldest for {seconds / 3600:,.0f} hours, and "
    listens = listeners.any_listens(connection)
    if listens and seconds >= _BEHIND_SECONDS:
        yield Finding(
            False,
            f"{waiting}a worker listens: it does not keep up, is held up, or has just started",
            "if it goes on, another one beside it: tterec worker; what holds it up, psql: SELECT "
            "application_name, state, wait_event, query FROM pg_stat_activity WHERE "
            "application_name LIKE 'tterec%'",
        )
    elif not listens and (rows >= _LONG_QUEUE or seconds >= _OLD_SECONDS):
        yield Finding(
            False,
            f"{waiting}no worker listens: new books are in no list",
            "tterec worker, or from time to time: tterec update",
        )


def _index(connection: Connection, generation: int, rows: int) -> Iterator[Finding]:
    name = f"tterec.item_vectors_{generation}"
    index = connection.execute(
        "SELECT i.indexrelid::regclass::text, i.indisvalid AND i.indisready FROM pg_index i"
        " JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam"
        " WHERE i.indrelid = %s::regclass AND a.amname = 'hnsw' ORDER BY 2 DESC",
        (name,),
    ).fetchone()
    if index is None:
        yield Finding(
            True,
            f"{name} has no HNSW index: every recommendation reads all vectors",
            f"psql: CREATE INDEX ON {name} USING hnsw (embedding vector_ip_ops)"
            f" WITH (m = {memory.HNSW_M}, ef_construction = {memory.HNSW_EF_CONSTRUCTION})",
        )
    elif not index[1]:
        yield Finding(
            True,
            f"the index {index[0]} is not valid: a build of it was cut off",
            f"psql: REINDEX INDEX {index[0]}",
        )
    elif rows >= _ROWS_WORTH_AN_INDEX and not _is_used(connection, name, str(index[0])):
        yield Finding(
            True,
            f"the planner does not use the index {index[0]} on {rows:,} vectors",
            f"psql: ANALYZE {name}; then look for planner settings of this role or database that "
            "are not Postgres' own (enable_indexscan, random_page_cost): \\drds",
        )

    found = value(connection, "SELECT to_regclass(%s)::text", f"tterec.{ivf.name(generation)}")
    if found is None and rows >= ivf.LEAST_ROWS and ivf.worth_building(connection, generation):
        yield Finding(
            False,
            f"{name} has no second index: lists of those who have met hundreds of books read all "
            "vectors",
            "tterec db upgrade",
        )


def _is_used(connection: Connection, name: str, index: str) -> bool:
    """Whether the candidate query of `tterec.recommend()` would go by the index."""
    extension = pgvector.extension_schema(connection)
    query = sql.SQL(
        "EXPLAIN (FORMAT json) SELECT v.item_id FROM {table} v"
        " WHERE v.item_id <> ALL ('{{}}'::bigint[])"
        " ORDER BY v.embedding OPERATOR({extension}.<#>) {vector}::{extension}.vector"
        " LIMIT 20"
    )
    table = sql.SQL(name)  # ours, not a caller's
    vector = value(connection, sql.SQL("SELECT embedding::text FROM {} LIMIT 1").format(table))
    plan = value(
        connection, query.format(table=table, extension=extension, vector=sql.Literal(vector))
    )
    return json.dumps(index.rpartition(".")[2]) in json.dumps(plan)


def _build_memory(
    connection: Connection, database: Database, rows: int, dim: int
) -> Iterator[Finding]:
    """Whether the next index can be built in memory, and by several processes."""
    if rows == 0:
        return
    needed = memory.hnsw_build_bytes(rows, dim, memory.HNSW_M)
    granted = int(
        value(connection, "SELECT pg_size_bytes(current_setting('maintenance_work_mem'))")
    )
    build = f"the next index, of {rows:,} vectors of {dim} dimensions,"
    if granted < needed:
        raised = needed <= memory.MOST_BUILD_BYTES
        yield Finding(
            not raised,
            f"{build} needs {megabytes(needed)} of maintenance_work_mem to build quickly and has "
            + megabytes(granted)
            + ("; publishing raises it for its own build" if raised else ""),
            f'psql: ALTER DATABASE "{connection.info.dbname}" SET maintenance_work_mem = '
            f"'{megabytes(needed).replace(' ', '')}'",
        )
    taken = max(granted, min(needed, memory.MOST_BUILD_BYTES))
    yield from shared_memory.of_build(connection, database, build, taken)
