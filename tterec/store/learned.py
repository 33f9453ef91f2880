"""What a generation has learned from, as far as the database can tell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tterec.database.connection import Connection
from tterec.store import vector_tables


@dataclass(frozen=True)
class Learned:
    """What a generation has learned from.

    watermark: the moment whose data it read, seconds since 1970; None where that is unknown.
    interactions: how many there were. user_ids: int64, the users that it has learned from, without
    those whom an update added, and forgotten: how many others there were, deleted since.
    """

    watermark: float | None
    interactions: int
    user_ids: NDArray[np.int64]
    forgotten: int


def learned_by(connection: Connection, generation: int) -> Learned:
    """What a generation that has its tables has learned from."""
    row = connection.execute(
        "SELECT extract(epoch FROM watermark)::float8,"
        " coalesce((counts ->> 'interactions')::bigint, 0), forgotten_users"
        " FROM tterec.models WHERE generation = %s",
        (generation,),
    ).fetchone()
    assert row is not None
    table = vector_tables.table("user_vectors", generation).as_string(connection)
    # A user without a state has a vector from a training that kept none.
    users = connection.execute(
        "SELECT user_id FROM tterec.user_state WHERE generation = %(n)s AND learned"
        f" UNION ALL SELECT user_id FROM {table} v WHERE NOT EXISTS (SELECT FROM tterec.user_state"
        "  s WHERE s.generation = %(n)s AND s.user_id = v.user_id)".encode(),
        {"n": generation},
        binary=True,
    ).fetchall()
    user_ids = np.fromiter((user for (user,) in users), dtype=np.int64, count=len(users))
    return Learned(row[0], int(row[1]), user_ids, int(row[2]))


def held_out(connection: Connection, generation: int) -> NDArray[np.int64]:
    """The (user, item) pairs that a generation was validated by, of users who are still there:
    int64 (n, 2)."""
    pairs = connection.execute(
        "SELECT user_id, item_id FROM tterec.held_out WHERE generation = %s",
        (generation,),
        binary=True,
    ).fetchall()
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def inherit_forgotten(connection: Connection, generation: int, users: int) -> None:
    """Note that the weights which a generation goes on from have learned from so many users who
    are no more."""
    connection.execute(
        "UPDATE tterec.models SET forgotten_users = %s WHERE generation = %s", (users, generation)
    )
