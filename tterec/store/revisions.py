"""The mark of a generation's vectors, for those who keep copies of them elsewhere."""

from __future__ import annotations

from tterec.database.connection import Connection


def bump(connection: Connection, generation: int) -> None:
    """Say that item vectors of a generation change; in the transaction that changes them.

    Copies outside the database, the FAISS files, are then out of date. A random mark, not a
    count: two clones of a database count alike. Whoever bumps the same generation waits until
    this transaction ends, so let it be the last statement.
    """
    connection.execute(
        "INSERT INTO tterec.schema_state (key, value) VALUES (%s, gen_random_uuid()::text)"
        " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (_key(generation),),
    )


def forget(connection: Connection, generation: int) -> None:
    """Remove the mark of a generation whose vectors are dropped."""
    connection.execute("DELETE FROM tterec.schema_state WHERE key = %s", (_key(generation),))


def _key(generation: int) -> str:
    return f"vectors_{generation}"  # as in sql/retrieval/vectors_state.sql
