"""Changes to a generation's items, by which precomputed lists are known to be out of date."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg import sql

from tterec.database.connection import Connection
from tterec.store.vector_tables import table

MOST = 5_000
"""So many changes are kept: more mean that lists are hardly ever made."""

Known = dict[int, tuple[Any, ...]]
"""Of items, what lists depend on: embedding, history vector, digest; None where there is none."""


@dataclass(frozen=True)
class Change:
    """The inner products of these vectors with a user's say whether the list may be another:
    float32 (v, d); none: it may in any case. `number` counts a generation's changes."""

    number: int
    item_id: int
    vectors: NDArray[np.float32]


def known(connection: Connection, generation: int, ids: Sequence[int]) -> Known:
    """What lists depend on of these items, as it is now."""
    rows = connection.execute(
        sql.SQL(
            "SELECT asked.id, v.embedding::real[], h.embedding::real[], s.digest"
            " FROM unnest(%s::bigint[]) AS asked (id) LEFT JOIN {} v ON v.item_id = asked.id"
            " LEFT JOIN {} h ON h.item_id = asked.id"
            " LEFT JOIN tterec.item_state s ON s.generation = %s AND s.item_id = asked.id"
        ).format(table("item_vectors", generation), table("history_vectors", generation)),
        (list(ids), generation),
        binary=True,
    ).fetchall()
    return {int(row[0]): tuple(row[1:]) for row in rows}


def note(connection: Connection, generation: int, before: Known) -> None:
    """Note which of these items are not what they were; in the transaction that changes them.

    Numbers are given in the order of commits: who sees one sees all smaller ones. So whoever notes
    something of the same generation waits until this transaction ends; let it be at its end.
    """
    change = _next(connection, generation)
    if change is None:  # no list was ever made
        return
    now = known(connection, generation, list(before))
    changed = [item for item, state in before.items() if state != now[item]]
    _insert(
        connection, generation, change, {item: (before[item][0], now[item][0]) for item in changed}
    )


def note_absent(connection: Connection, generation: int, ids: Sequence[int]) -> None:
    """Note items that have a vector and are not in the catalogue: they may come back."""
    change = _next(connection, generation) if ids else None
    if change is not None:
        now = known(connection, generation, ids)
        _insert(connection, generation, change, {item: (None, now[item][0]) for item in ids})


def note_everything(connection: Connection, generation: int) -> None:
    """Say that all lists that there are by now are out of date."""
    change = _next(connection, generation)
    if change is not None:
        connection.execute(
            "DELETE FROM tterec.list_changes WHERE generation = %s AND change < %s",
            (generation, change),
        )
        _insert(connection, generation, change, {0: (None, None)})


def _next(connection: Connection, generation: int) -> int | None:
    row = connection.execute(
        "UPDATE tterec.list_sets SET change = change + 1 WHERE generation = %s RETURNING change",
        (generation,),
    ).fetchone()
    return None if row is None else int(row[0])


def _insert(
    connection: Connection, generation: int, change: int, items: dict[int, tuple[Any, Any]]
) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO tterec.list_changes (generation, change, item_id, before, after)"
            " VALUES (%s, %s, %s, %s::real[], %s::real[])",
            [(generation, change, item, *vectors) for item, vectors in items.items()],
        )
    row = connection.execute(
        "SELECT count(*) FROM tterec.list_changes WHERE generation = %s", (generation,)
    ).fetchone()
    if row is not None and row[0] > MOST:
        note_everything(connection, generation)


def pending(connection: Connection, generation: int, until: int) -> list[Change]:
    """The changes up to that number which some list may not have in it."""
    rows = connection.execute(
        "SELECT change, item_id, before, after FROM tterec.list_changes"
        " WHERE generation = %s AND change <= %s",
        (generation, until),
        binary=True,
    ).fetchall()
    return [
        Change(
            int(change),
            int(item),
            np.array([one for one in vectors if one is not None], dtype=np.float32),
        )
        for change, item, *vectors in rows
    ]


def settle(connection: Connection, generation: int, until: int) -> None:
    """Forget the changes up to that number: no list is wrong because of them any more."""
    connection.execute(
        "DELETE FROM tterec.list_changes WHERE generation = %s AND change <= %s",
        (generation, until),
    )
