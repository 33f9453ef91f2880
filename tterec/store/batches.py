"""A transaction on the live generation, which may stop being the live one at any moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from psycopg import errors as pg

from tterec.database.connection import Connection
from tterec.errors import SourceError, TrainingError
from tterec.store import list_changes, locks, registry, revisions

T = TypeVar("T")

MOST_REFUSED = 10
"""So many rows of a batch may be wrong by themselves; of more, the source is to blame."""


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


@dataclass(frozen=True)
class Refused:
    """A row that cannot be embedded, and why."""

    id: int
    why: SourceError | TrainingError


def sifted(
    connection: Connection, ids: Sequence[int], work: Callable[[Sequence[int]], T]
) -> tuple[list[T], list[Refused]]:
    """Do `work` with all ids, in this transaction; where rows are refused, without these.

    Returns what it returned for each part, and the refused rows. Raises the error of the first of
    them if they are more than MOST_REFUSED.
    """
    done: list[T] = []
    refused: list[Refused] = []
    parts = [ids]
    while parts:
        part = parts.pop()
        try:
            with connection.transaction():
                done.append(work(part))
        except (SourceError, TrainingError) as error:
            middle = len(part) // 2
            if middle:
                parts += [part[middle:], part[:middle]]
                continue
            refused.append(Refused(part[0], error))
            if len(refused) > MOST_REFUSED:
                raise refused[0].why from error
    return done, refused
