"""What Postgres itself counts of tterec's functions, tables and indexes. Read only.

The counters are the server's own: a replica has others than its primary, and they begin anew after
a crash and with pg_stat_reset().
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from psycopg import errors as pg
from psycopg import sql

from tterec.database.connection import Connection
from tterec.store.vector_tables import TABLES

T = TypeVar("T")


@dataclass(frozen=True)
class FunctionCalls:
    """Calls of a function, named with the type of its first argument, and their milliseconds:
    with those of the functions that it calls, and without."""

    function: str
    calls: int
    total_ms: float
    self_ms: float


@dataclass(frozen=True)
class IndexUse:
    """An index on a generation's own tables: its bytes, and how many scans it has served."""

    generation: int
    index: str
    bytes: int
    scans: int


@dataclass(frozen=True)
class DeadTuples:
    """A table's rows, those that no one sees any more, and when autovacuum last removed these."""

    table: str
    live: int
    dead: int
    last_autovacuum: str | None


def permitted(connection: Connection, read: Callable[[], T]) -> T | str:
    """What `read` returns; or, where this role may not see that, why."""
    try:
        with connection.transaction():
            return read()
    except pg.InsufficientPrivilege as error:
        return str(error.diag.message_primary)


def in_recovery(connection: Connection) -> bool:
    """Whether the server is a replica, and so counts neither dead tuples nor workers."""
    return connection.execute("SELECT pg_is_in_recovery()").fetchone() == (True,)


def tracked(connection: Connection) -> str:
    """Of which functions calls are counted: `none`, `pl` (PL/pgSQL) or `all`."""
    row = connection.execute("SHOW track_functions").fetchone()
    assert row is not None
    return str(row[0])


def to_track(connection: Connection) -> str:
    """What a superuser sends to have calls counted, in sessions that begin later."""
    name = sql.Identifier(connection.info.dbname)
    return (
        sql.SQL("ALTER DATABASE {} SET track_functions = 'pl';").format(name).as_string(connection)
    )


def function_calls(connection: Connection) -> list[FunctionCalls]:
    """Calls of the functions in the schema `tterec`, those that took the most time first."""
    rows = connection.execute(
        "SELECT s.funcname || CASE p.pronargs WHEN 0 THEN '()' WHEN 1 THEN"
        "   format('(%%s)', format_type(p.proargtypes[0], NULL))"
        "  ELSE format('(%%s, …)', format_type(p.proargtypes[0], NULL)) END,"
        " s.calls, s.total_time, s.self_time"
        " FROM pg_stat_user_functions s JOIN pg_proc p ON p.oid = s.funcid"
        " WHERE s.schemaname = %s ORDER BY s.total_time DESC, 1",
        ("tterec",),
    ).fetchall()
    return [FunctionCalls(str(a), int(b), round(c, 3), round(d, 3)) for a, b, c, d in rows]


def index_use(connection: Connection, generations: Sequence[int]) -> list[IndexUse]:
    """The indexes on the tables of some generations, in their order."""
    found = []
    for generation in generations:
        rows = connection.execute(
            "SELECT indexrelname, pg_relation_size(indexrelid), idx_scan FROM pg_stat_user_indexes"
            " WHERE schemaname = 'tterec' AND relname = ANY (%s) ORDER BY 1",
            ([f"{kind}_{generation}" for kind in TABLES],),
        ).fetchall()
        found += [IndexUse(generation, str(a), int(b or 0), int(c or 0)) for a, b, c in rows]
    return found


def dead_tuples(connection: Connection) -> list[DeadTuples]:
    """The tables of the schema `tterec`, those with the most dead rows first."""
    rows = connection.execute(
        "SELECT relname, n_live_tup, n_dead_tup, last_autovacuum FROM pg_stat_user_tables"
        " WHERE schemaname = 'tterec' ORDER BY n_dead_tup DESC, relname"
    ).fetchall()
    return [
        DeadTuples(str(a), int(b), int(c), d and d.isoformat(timespec="seconds"))
        for a, b, c, d in rows
    ]
