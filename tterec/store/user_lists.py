"""Users' precomputed lists: which of them are out of date, and how they are written."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from psycopg import sql

from tterec.database import vectors
from tterec.database.connection import Connection
from tterec.records import Recommendation
from tterec.store import list_changes
from tterec.store.list_changes import Change
from tterec.store.vector_tables import EVIDENCE, table

# Vectors and their products are float32: what is this near to the margin is on both sides of it.
_MARGIN = 1e-5
_ROWS_A_CHUNK = 10_000


@dataclass(frozen=True)
class UserList:
    """A user's list, best first; an item whose similarity is less than `nearest` was not looked
    at. `two_stages`: the order is that of a second stage."""

    user_id: int
    lines: Sequence[Recommendation]
    nearest: float
    two_stages: bool


@dataclass(frozen=True)
class Outdated:
    """Users, ascending: whose list has to be made, those of them who have none yet, and who has one
    and is no user any more."""

    to_make: list[int]
    without: list[int]
    to_drop: list[int]


def open_set(connection: Connection, generation: int, top: int) -> None:
    """Have changes to the generation's items noted from now on. Lists of another depth are out of
    date."""
    with connection.transaction():
        row = connection.execute(
            "SELECT top FROM tterec.list_sets WHERE generation = %s FOR UPDATE", (generation,)
        ).fetchone()
        if row is None:
            # Whoever is at the end of a batch found nothing here, and notes nothing: wait for them.
            connection.execute("LOCK TABLE tterec.list_sets IN SHARE ROW EXCLUSIVE MODE")
        elif row[0] != top:
            list_changes.note_everything(connection, generation)
        connection.execute(
            "INSERT INTO tterec.list_sets (generation, top) VALUES (%s, %s)"
            " ON CONFLICT (generation) DO UPDATE SET top = excluded.top",
            (generation, top),
        )


def last_change(connection: Connection, generation: int) -> int:
    """The number of the last change to the generation's items that this snapshot sees."""
    row = connection.execute(
        "SELECT change FROM tterec.list_sets WHERE generation = %s", (generation,)
    ).fetchone()
    return 0 if row is None else int(row[0])


def finish(connection: Connection, generation: int, change: int) -> None:
    """All lists are as they would be made after that change, or later."""
    with connection.transaction():
        # First this row, then the changes: as who notes changes does.
        connection.execute(
            "UPDATE tterec.list_sets SET refreshed_at = clock_timestamp() WHERE generation = %s",
            (generation,),
        )
        list_changes.settle(connection, generation, change)


def count(connection: Connection, generation: int) -> int:
    """How many users have a list."""
    row = connection.execute(
        "SELECT count(*) FROM tterec.user_lists WHERE generation = %s", (generation,)
    ).fetchone()
    assert row is not None
    return int(row[0])


def absent_items(connection: Connection, generation: int) -> list[int]:
    """Items that have a vector and are not in the catalogue."""
    rows = connection.execute(
        sql.SQL(
            "SELECT v.item_id FROM {} v WHERE NOT EXISTS"
            " (SELECT FROM tterec.catalogue c WHERE c.item_id = v.item_id)"
        ).format(table("item_vectors", generation))
    ).fetchall()
    return [int(row[0]) for row in rows]


def outdated(connection: Connection, generation: int) -> Outdated:
    """By what users have met. Active are those who have met something or have a profile."""
    rows = connection.execute(
        sql.SQL(
            "SELECT active.user_id, l.user_id FROM"
            " (SELECT u.user_id, h.digest FROM (SELECT user_id FROM tterec.interactions"
            "   UNION SELECT user_id FROM {}) u, LATERAL tterec.history_digest(u.user_id) h) active"
            " FULL JOIN (SELECT user_id, digest FROM tterec.user_lists WHERE generation = %s) l"
            " ON l.user_id = active.user_id WHERE l.digest IS DISTINCT FROM active.digest"
            " ORDER BY 1, 2"
        ).format(table("user_vectors", generation)),
        (generation,),
    ).fetchall()
    return Outdated(
        [int(active) for active, _ in rows if active is not None],
        [int(active) for active, kept in rows if kept is None],
        [int(kept) for active, kept in rows if active is None],
    )


def touched(connection: Connection, generation: int, changes: Sequence[Change]) -> set[int]:
    """The users whose lists may be others by these changes."""
    if not changes:
        return set()
    items = sorted({change.item_id for change in changes})
    leaders = items
    evidence = table(EVIDENCE, generation)
    name = evidence.as_string(connection).replace('"', "")
    if connection.execute("SELECT to_regclass(%s)", (name,)).fetchone() != (None,):
        rows = connection.execute(
            sql.SQL("SELECT item_id FROM {} WHERE leads && %s::bigint[]").format(evidence),
            (items,),
        ).fetchall()
        leaders = sorted({*items, *(int(row[0]) for row in rows)})
    last = max(change.number for change in changes)
    rows = connection.execute(
        "SELECT l.user_id FROM tterec.user_lists l JOIN (SELECT DISTINCT i.user_id"
        "  FROM tterec.interactions i WHERE i.item_id = ANY (%s::bigint[])) met"
        " ON met.user_id = l.user_id WHERE l.generation = %s AND l.change < %s",
        (leaders, generation, last),
    ).fetchall()
    found = {int(row[0]) for row in rows}
    of_all = max((c.number for c in changes if not len(c.vectors)), default=0)
    numbers = np.array([c.number for c in changes for _ in c.vectors], dtype=np.int64)
    items_then = [vector for c in changes for vector in c.vectors]
    dim = len(items_then[0]) if items_then else 0
    for ids, since, nearest, own in _vectors_of_lists(connection, generation, last, dim):
        again = since < of_all
        if items_then:
            near = own @ np.array(items_then).T >= (nearest - _MARGIN)[:, None]
            again |= (near & (numbers > since[:, None])).any(axis=1)
        found |= set(ids[again].tolist())
    return found


def _vectors_of_lists(
    connection: Connection, generation: int, before: int, dim: int
) -> Iterator[
    tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], NDArray[np.float32]]
]:
    """Of lists older than a change, in chunks: user ids (n,), the last change in them (n,), how
    near an item had to be (n,), and users' vectors (n, d); zeros where a user has none, and then
    every item is near."""
    after = -(2**63)
    while True:
        rows = connection.execute(
            "SELECT user_id, change, nearest, vector FROM tterec.user_lists"
            " WHERE generation = %s AND user_id > %s AND change < %s ORDER BY user_id LIMIT %s",
            (generation, after, before, _ROWS_A_CHUNK),
            binary=True,
        ).fetchall()
        if not rows:
            return
        after = rows[-1][0]
        yield (
            np.array([row[0] for row in rows], dtype=np.int64),
            np.array([row[1] for row in rows], dtype=np.int64),
            np.array([row[2] if row[3] else -np.inf for row in rows], dtype=np.float64),
            np.array([(row[3] or [0.0] * dim)[:dim] for row in rows], dtype=np.float32),
        )


def write(connection: Connection, generation: int, change: int, lists: Iterable[UserList]) -> None:
    """Insert or replace these users' lists; in the snapshot that they were made in."""
    connection.execute(
        "CREATE TEMPORARY TABLE IF NOT EXISTS staged_lists (user_id bigint, source text,"
        " items bigint[], scores real[], similarities real[], nearest real) ON COMMIT DELETE ROWS"
    )
    statement = "COPY pg_temp.staged_lists FROM STDIN (FORMAT binary)"
    with connection.cursor() as cursor, cursor.copy(statement.encode()) as copy:
        copy.write(vectors.SIGNATURE)
        for one in lists:
            copy.write(_row(one))
        copy.write(vectors.TRAILER)
    connection.execute(
        "INSERT INTO tterec.user_lists (generation, user_id, digest, change, source, items, scores,"
        "  similarities, nearest, vector)"
        " SELECT %s, s.user_id, d.digest, %s, s.source, s.items, s.scores, s.similarities,"
        "  s.nearest, e.vector::real[]"
        " FROM pg_temp.staged_lists s, LATERAL tterec.history_digest(s.user_id) d,"
        "  LATERAL tterec.history_of(s.user_id) h,"
        "  LATERAL tterec.embed(s.user_id, h.items, h.ratings) e"
        " ON CONFLICT (generation, user_id) DO UPDATE SET digest = excluded.digest,"
        "  change = excluded.change, source = excluded.source, items = excluded.items,"
        "  scores = excluded.scores, similarities = excluded.similarities,"
        "  nearest = excluded.nearest, vector = excluded.vector",
        (generation, change),
    )


def _row(one: UserList) -> bytes:
    source = (one.lines[0].source if one.lines else "popular").encode()
    items = np.array([line.book_id for line in one.lines], dtype=np.int64)
    scores = np.array([line.score for line in one.lines], dtype=np.float32)
    fields = [
        struct.pack(">hiqi", 6, 8, one.user_id, len(source)) + source,
        vectors.array_field(items, ">i8"),
        vectors.array_field(scores, ">f4"),
    ]
    if one.two_stages:
        similarities = np.array([line.similarity for line in one.lines], dtype=np.float32)
        fields.append(vectors.array_field(similarities, ">f4"))
    else:
        fields.append(struct.pack(">i", -1))
    return b"".join([*fields, struct.pack(">if", 4, one.nearest)])


def drop(connection: Connection, generations: Sequence[int], users: Sequence[int]) -> None:
    """Remove users' lists."""
    connection.execute(
        "DELETE FROM tterec.user_lists WHERE generation = ANY (%s) AND user_id = ANY (%s)",
        (list(generations), list(users)),
    )


def clear(connection: Connection, generation: int) -> None:
    """Remove all lists of a generation, and what is kept about them."""
    for name in ("user_lists", "list_changes", "list_sets"):
        connection.execute(
            f"DELETE FROM tterec.{name} WHERE generation = %s".encode(), (generation,)
        )
