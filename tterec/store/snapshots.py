"""Transactions that see one moment, and write to a generation as long as it is live."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import psycopg
from psycopg import errors as pg

from tterec.database.connection import Connection
from tterec.store import registry
from tterec.store.batches import Superseded

T = TypeVar("T")

# Who overtakes is a worker's batch or a prune: it is over in a moment.
_TRIES = 10


def prepare(connection: Connection) -> None:
    """Make every transaction of an autocommit connection a snapshot."""
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ


def in_snapshot(connection: Connection, generation: int, work: Callable[[], T]) -> T:
    """What `work` returns, done in a transaction of its own; done again where another transaction
    overtook it. The generation is not removed meanwhile. Raises Superseded where it is not live."""
    for attempt in range(1, _TRIES + 1):
        try:
            with connection.transaction():
                # Without this lock the rows of a generation that is being removed could stay.
                connection.execute(
                    "SELECT FROM tterec.models WHERE generation = %s FOR KEY SHARE", (generation,)
                )
                if registry.live(connection) != generation:
                    raise Superseded
                return work()
        except (pg.SerializationFailure, pg.DeadlockDetected):
            if attempt == _TRIES:
                raise
    raise AssertionError("not reached")  # pragma: no cover
