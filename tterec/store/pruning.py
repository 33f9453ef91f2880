"""Removing generations that nobody can be reading any more."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from psycopg import errors as pg

from tterec import errors
from tterec.database import ownership
from tterec.database.connection import Connection
from tterec.records import Progress, ProgressCallback, ignore
from tterec.store import generations, locks, registry, vector_tables

# A table that is being dumped or read is left for the next prune.
_LOCK_TIMEOUT = "5s"
_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Pruned:
    """What a prune did, by generation.

    `pruned` were ready and are no more; `cleared` are leftovers of runs that failed or were
    killed, and tables without a registry row; `left` could not go yet, with the reason.
    """

    pruned: list[int] = field(default_factory=list)
    cleared: list[int] = field(default_factory=list)
    left: dict[int, str] = field(default_factory=dict)


def prune(
    connection: Connection, wait_seconds: float = 60, progress: ProgressCallback = ignore
) -> Pruned:
    """Drop the tables of all generations but the live and the previous one.

    Their rows stay in the registry, without the weights. A reader whose snapshot is older than
    the last promotion may still be on an older generation: it is waited for, up to
    `wait_seconds`, else what it may read is left, and so is a table that is locked. With no
    generation live, the newest ready one is kept. `connection` must be in autocommit mode. Raises
    DatabaseError, and nothing is dropped, where some of them may not be dropped by this role.
    """
    result = Pruned()
    candidates = _candidates(connection)
    tables = [name for generation in candidates for name in vector_tables.names(generation)]
    ownership.require_droppable(connection, list(candidates), tables)
    served = [generation for generation, status in candidates.items() if status == "ready"]
    if served and not _older_snapshots_gone(connection, wait_seconds, progress):
        for generation in served:
            result.left[generation] = "a transaction from before the last promotion is still open"
    for generation in candidates:
        if generation in result.left:
            continue
        try:
            done = _remove(connection, generation)
        except errors.Busy:
            result.left[generation] = "another process is promoting, rolling back or pruning"
            continue
        except pg.LockNotAvailable:
            result.left[generation] = "its tables are in use"
            continue
        if done is not None:
            (result.pruned if done == "pruned" else result.cleared).append(generation)
    return result


def _candidates(connection: Connection) -> dict[int, str | None]:
    """Generations that may have to go, with their status, None for those in no registry."""
    kept = _kept(connection)
    found: dict[int, str | None] = {
        one.generation: one.status for one in registry.list_generations(connection)
    }
    tables = vector_tables.generations_with_tables(connection)
    return {
        generation: found.get(generation)
        for generation in sorted(found.keys() | set(tables))
        if generation not in kept
        and (generation in tables or found[generation] in ("building", "ready"))
    }


def _kept(connection: Connection) -> set[int]:
    rows = connection.execute(
        "SELECT unnest(ARRAY[generation, previous_generation]) FROM tterec.active_model"
    ).fetchall()
    if not rows:
        rows = connection.execute(
            "SELECT max(generation) FROM tterec.models WHERE status = 'ready'"
        ).fetchall()
    return {int(row[0]) for row in rows if row[0] is not None}


def _remove(connection: Connection, generation: int) -> str | None:
    """Remove one generation in a transaction of its own; its status then, None if it stays.

    What is live and who is building is asked again under the lock: it may have changed.
    """
    with connection.transaction():
        locks.await_promotion(connection)
        connection.execute("SELECT set_config('lock_timeout', %s, true)", (_LOCK_TIMEOUT,))
        if generation in _kept(connection):
            return None
        row = connection.execute(
            "SELECT status FROM tterec.models WHERE generation = %s FOR UPDATE", (generation,)
        ).fetchone()
        if locks.is_building(connection, generation):
            return None  # or just built, and about to be promoted
        found = "unknown" if row is None else str(row[0])
        status = {"building": "failed", "ready": "pruned"}.get(found, found)
        generations.clear(connection, generation)
        connection.execute(
            "UPDATE tterec.models SET status = %(status)s,"
            " finished_at = coalesce(finished_at, clock_timestamp())"
            " WHERE generation = %(n)s AND status <> %(status)s",
            {"status": status, "n": generation},
        )
        return status


def _older_snapshots_gone(
    connection: Connection, wait_seconds: float, progress: ProgressCallback
) -> bool:
    """Wait until every snapshot in use sees the last promotion; False if the time is over.

    The row of the live generation was written by the transaction of the last promotion (its
    xmin). A snapshot that does not see it has an xmin that is no newer. Replicas that send
    feedback show theirs through their WAL sender.
    """
    deadline = time.monotonic() + wait_seconds
    told = False
    while True:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity s, tterec.active_model a"
            " WHERE s.pid <> pg_backend_pid() AND s.backend_xmin IS NOT NULL"
            " AND (s.datname = current_database() OR s.datname IS NULL)"
            " AND s.backend_type IS DISTINCT FROM 'autovacuum worker'"
            " AND age(s.backend_xmin) >= age(a.xmin)"
        ).fetchone()
        if row is None or row[0] == 0:
            return True
        if time.monotonic() >= deadline:
            return False
        if not told:
            told = True
            progress(
                Progress(
                    "prune",
                    message=f"Waiting up to {wait_seconds:.0f} s for {row[0]} transaction(s) from "
                    "before the last promotion.",
                )
            )
        time.sleep(_POLL_SECONDS)
