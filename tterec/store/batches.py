"""A transaction on the live generation, which may stop being the live one at any moment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from psycopg import errors as pg

from tterec.database.connection import Connection
from tterec.store import registry


class Superseded(Exception):
    """Another generation is live by now."""


@contextmanager
def batch(connection: Connection, generation: int) -> Iterator[None]:
    """One transaction that writes to a generation as long as it is live. Raises Superseded."""
    try:
        with connection.transaction():
            if registry.live(connection) != generation:
                raise Superseded
            yield
    except pg.UndefinedTable as error:
        if registry.live(connection) != generation:
            raise Superseded from error
        raise
