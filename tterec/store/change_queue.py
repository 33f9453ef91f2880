"""The queue `tterec.changes`: triggers fill it, `tterec worker` and `tterec update` empty it."""

from __future__ import annotations

from dataclasses import dataclass

from tterec.database.connection import Connection

CHANNEL = "tterec_changes"
"""What the triggers NOTIFY."""


@dataclass(frozen=True)
class Batch:
    """Rows of the queue that this transaction has taken, and the ids that they name."""

    change_ids: list[int]
    items: set[int]
    users: set[int]
    rated: set[int]


def take(connection: Connection, most: int) -> Batch:
    """Take the oldest rows that name an id and that no other worker has taken."""
    rows = connection.execute(
        "SELECT change_id, kind, id FROM tterec.changes WHERE kind <> 'everything'"
        " ORDER BY change_id LIMIT %s FOR UPDATE SKIP LOCKED",
        (most,),
    ).fetchall()
    ids: dict[str, set[int]] = {"item": set(), "user": set(), "interaction": set()}
    for _, kind, id_ in rows:
        if id_ is not None:
            ids[kind].add(id_)
    return Batch([row[0] for row in rows], ids["item"], ids["user"], ids["interaction"])


def remove(connection: Connection, change_ids: list[int]) -> None:
    """Delete rows of the queue; those that another worker has taken are its own."""
    connection.execute(
        "DELETE FROM tterec.changes WHERE change_id IN (SELECT change_id FROM tterec.changes"
        " WHERE change_id = ANY (%s) ORDER BY change_id FOR UPDATE SKIP LOCKED)",
        (change_ids,),
    )


def everything(connection: Connection) -> None:
    """Ask for an update of everything, once this transaction is committed."""
    connection.execute("SELECT tterec.queue_everything()")


def wants_everything(connection: Connection) -> bool:
    """Whether an update of everything was asked for, or has begun and not ended.

    Rows that a transaction in progress replaces by its own do not count. Ask while no other update
    runs: of two who ask at once, one gets no answer.
    """
    row = connection.execute(
        "SELECT FROM tterec.changes WHERE kind = 'everything' LIMIT 1 FOR UPDATE SKIP LOCKED"
    ).fetchone()
    return row is not None


def size(connection: Connection) -> int:
    """How many rows are queued."""
    row = connection.execute("SELECT count(*) FROM tterec.changes").fetchone()
    assert row is not None
    return int(row[0])


@dataclass(frozen=True)
class Queue:
    """How many rows wait, and for how many seconds the oldest has; None where there is none."""

    rows: int
    oldest_seconds: float | None


def waiting(connection: Connection) -> Queue:
    """How long the queue is, and for how long its oldest row has waited."""
    row = connection.execute(
        "SELECT count(*), extract(epoch FROM clock_timestamp() - min(queued_at))::float8"
        " FROM tterec.changes"
    ).fetchone()
    assert row is not None
    return Queue(int(row[0]), None if row[1] is None else round(row[1], 1))


def names_any(connection: Connection) -> bool:
    """Whether ids are queued."""
    row = connection.execute(
        "SELECT EXISTS (SELECT FROM tterec.changes WHERE kind <> 'everything')"
    ).fetchone()
    return row == (True,)


def covered(connection: Connection) -> list[int]:
    """The rows that an update which begins now covers; to be removed when it has ended.

    What these stand for is committed. Who has not committed yet has rows of their own.
    """
    rows = connection.execute("SELECT change_id FROM tterec.changes").fetchall()
    return [int(row[0]) for row in rows]
