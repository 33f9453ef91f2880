"""A transaction on the live generation, which may stop being the live one at any moment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from psycopg import errors as pg

from tterec.database.connection import Connection
from tterec.store import registry, revisions


class Superseded(Exception):
    """Another generation is live by now."""


@dataclass
class Batch:
    """What a transaction has done: `items`, whether it changed vectors of items."""

    items: bool = False


@contextmanager
def batch(connection: Connection, generation: int) -> Iterator[Batch]:
    """One transaction that writes to a generation as long as it is live. Raises Superseded."""
    done = Batch()
    try:
        with connection.transaction():
            if registry.live(connection) != generation:
                raise Superseded
            yield done
            if done.items:  # last: whoever else is at its end waits for this row, and for no other
                revisions.bump(connection, generation)
    except pg.UndefinedTable as error:
        if registry.live(connection) != generation:
            raise Superseded from error
        raise
