"""Instants at which a process is to be killed: it is held there from outside, or watched for.

Whoever waits for a lock is inside what it was doing. Nothing in tterec knows of it: gates are
locks, and triggers on tables that a process makes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from tterec.database.connection import Connection, Database

Reached = Callable[[Connection, str], list[int]]
"""Backends of who has this application name that are at the instant; none while it is not there."""

# What a session was called before it was named after a stage, too: `kill 12: build index`.
_NAME = "split_part(application_name, ': ', 1)"

_GATE = 0x6B69_6C6C  # "kill"

# A table whose name is like this lets the rows in until the condition, and then waits.
_CLOSE = """
    CREATE FUNCTION public.kill_wait() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN PERFORM pg_advisory_xact_lock_shared({gate}); RETURN NEW; END $$;
    CREATE FUNCTION public.kill_watch() RETURNS event_trigger LANGUAGE plpgsql AS $$
        DECLARE made text;
        BEGIN
            FOR made IN SELECT object_identity FROM pg_event_trigger_ddl_commands()
                WHERE command_tag = 'CREATE TABLE' AND object_identity LIKE '{table}'
            LOOP
                EXECUTE format('CREATE TRIGGER kill_wait BEFORE INSERT ON %s FOR EACH ROW'
                    ' WHEN ({when}) EXECUTE FUNCTION public.kill_wait()', made);
            END LOOP;
        END $$;
    CREATE EVENT TRIGGER kill_watch ON ddl_command_end EXECUTE FUNCTION public.kill_watch()
"""
_OPEN = (
    "DROP EVENT TRIGGER kill_watch",
    "DROP FUNCTION public.kill_watch()",
    "DROP FUNCTION public.kill_wait() CASCADE",
)


@dataclass(frozen=True)
class Instant:
    """Where a process is to be killed. `hold`: while its block runs, who comes there stays."""

    name: str
    hold: Callable[[Database], AbstractContextManager[Reached]]


def waiting(name: str, take: Callable[[Connection], object] | str) -> Instant:
    """Where it waits for a lock that `take`, a statement or a function, takes."""

    @contextmanager
    def hold(database: Database) -> Iterator[Reached]:
        with database.connect() as holder:
            if isinstance(take, str):
                holder.execute(take.encode())
            else:
                take(holder)
            yield _blocked_by(holder)

    return Instant(name, hold)


def copying(name: str, table: str, when: str) -> Instant:
    """Inside the COPY into a new table, LIKE `table`, at the row of which `when` is true."""

    @contextmanager
    def hold(database: Database) -> Iterator[Reached]:
        with database.connect(autocommit=True) as holder:
            holder.execute(_CLOSE.format(gate=_GATE, table=table, when=when).encode())
            try:
                holder.execute("SELECT pg_advisory_lock(%s)", (_GATE,))
                yield _blocked_by(holder)
            finally:
                holder.execute("SELECT pg_advisory_unlock_all()")
                for statement in _OPEN:
                    holder.execute(statement.encode())

    return Instant(name, hold)


def indexing(name: str) -> Instant:
    """While it builds an HNSW index. Nothing holds it there: the index must take a moment."""

    @contextmanager
    def hold(_: Database) -> Iterator[Reached]:
        yield lambda watcher, who: _pids(
            watcher,
            "SELECT pid FROM pg_stat_progress_create_index JOIN pg_stat_activity USING (pid)"
            f" WHERE {_NAME} = %s AND phase = 'building index: loading tuples'",
            who,
        )

    return Instant(name, hold)


def after(seconds: float) -> Instant:
    """So many seconds after its first connection."""

    @contextmanager
    def hold(_: Database) -> Iterator[Reached]:
        first: list[float] = []

        def reached(watcher: Connection, who: str) -> list[int]:
            found = sessions(watcher, who)
            if found and not first:
                first.append(time.monotonic())
            return found if first and time.monotonic() - first[0] >= seconds else []

        yield reached

    return Instant("at random", hold)


def sessions(watcher: Connection, who: str) -> list[int]:
    """All backends of who has this application name."""
    return _pids(watcher, f"SELECT pid FROM pg_stat_activity WHERE {_NAME} = %s", who)


def doing(watcher: Connection, who: str) -> str:
    """What a process's sessions are at, in a word or two."""
    rows = watcher.execute(
        "SELECT string_agg(substring(query FROM '^ *(\\w+ ?\\w*)'), ', ' ORDER BY pid)"
        f" FROM pg_stat_activity WHERE {_NAME} = %s AND state <> 'idle'",
        (who,),
    ).fetchone()
    return (rows and rows[0]) or "no statement"


def _blocked_by(holder: Connection) -> Reached:
    pid = holder.info.backend_pid
    return lambda watcher, who: _pids(
        watcher,
        f"SELECT pid FROM pg_stat_activity WHERE {_NAME} = %s"
        " AND wait_event_type = 'Lock' AND %s = ANY (pg_blocking_pids(pid))",
        who,
        pid,
    )


def _pids(watcher: Connection, query: str, *given: object) -> list[int]:
    return [int(row[0]) for row in watcher.execute(query.encode(), given)]
