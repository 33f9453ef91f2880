"""One connection that answers questions, each as of one moment."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from contextlib import ExitStack, nullcontext
from typing import TypeVar

from tterec import errors
from tterec.database import schema
from tterec.database.connection import Connection, Database
from tterec.database.driver_errors import errors_wrapped
from tterec.retrieval import pgvector
from tterec.store.stages import showing

T = TypeVar("T")


class Session:
    """Opens a connection at the first question, and again after it broke. One a thread."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: Connection | None = None
        self._resources = ExitStack()
        self._close = weakref.finalize(self, self._resources.close)

    def close(self) -> None:
        """Close the connection. The next question opens another."""
        self._connection = None
        self._resources.close()

    def ask(self, work: Callable[[Connection], T], name: str | None = None) -> T:
        """What `work` returns; with a name, the connection is shown as a stage of that name.

        It is one transaction, a snapshot that writes nothing. Raises SchemaOutdated from a new
        connection to a database of another version.
        """
        held = self._connection
        try:
            return self._asked(work, name)
        except errors.ConnectionFailed:
            if held is None:
                raise
        # The connection was an old one: the server may be back, or have ended idle sessions.
        return self._asked(work, name)

    def _asked(self, work: Callable[[Connection], T], name: str | None) -> T:
        with errors_wrapped():
            connection = self._connection
            if connection is None or connection.closed:
                self.close()
                connection = self._resources.enter_context(self._database.connect())
                pgvector.prepare(connection)
                pgvector.in_snapshot(connection, lambda: schema.require_current(connection))
                self._connection = connection

            def named() -> T:
                with nullcontext() if name is None else showing(connection, name):
                    return work(connection)

            return pgvector.in_snapshot(connection, named)
