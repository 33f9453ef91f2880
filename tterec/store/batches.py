"""A transaction on the live generation, which may stop being the live one at any moment."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from psycopg import errors as pg

from tterec.database.connection import Connection
from tterec.errors import SourceError, TrainingError
from tterec.store import registry, revisions

T = TypeVar("T")

MOST_REFUSED = 10
"""So many rows of a batch may be wrong by themselves; of more, the source is to blame."""


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
