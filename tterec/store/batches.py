"""A transaction on the live generation, which may stop being the live one at any moment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from psycopg import errors as pg

from tterec.database.connection import Connection
from tterec.store import list_changes, locks, registry, revisions


class Superseded(Exception):
    """Another generation is live by now."""


@dataclass
class Batch:
    """What a transaction does to a generation; say so before it is done."""

    connection: Connection
    generation: int
    _items: list_changes.Known = field(default_factory=dict)

    def items(self, ids: Sequence[int]) -> None:
        """These items are about to be written anew, by nobody else meanwhile."""
        locks.await_rows(self.connection, "items", ids)
        self._items |= list_changes.known(self.connection, self.generation, ids)

    def end(self) -> None:
        """Tell those who keep something that was made of the items."""
        if self._items:
            list_changes.note(self.connection, self.generation, self._items)
            # Last: whoever else is at its end waits for this row, and for no other.
            revisions.bump(self.connection, self.generation)


@contextmanager
def batch(connection: Connection, generation: int) -> Iterator[Batch]:
    """One transaction that writes to a generation as long as it is live. Raises Superseded."""
    try:
        with connection.transaction():
            if registry.live(connection) != generation:
                raise Superseded
            done = Batch(connection, generation)
            yield done
            done.end()
    except pg.UndefinedTable as error:
        if registry.live(connection) != generation:
            raise Superseded from error
        raise
