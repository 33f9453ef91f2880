"""What SQL and serving embed somebody by, of whom only features are known: the user tower."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from psycopg import sql

from tterec.database import vectors
from tterec.database.connection import Connection
from tterec.database.pgvector import extension_schema
from tterec.records import ProfileColumn
from tterec.store.vector_tables import PROFILE, finish, table


def create(
    connection: Connection, generation: int, columns: Sequence[ProfileColumn], dim: int
) -> None:
    """Write a generation's user tower: rows of profile_columns, and its own table of tokens.

    Runs in the caller's transaction.
    """
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO tterec.profile_columns"
            " (generation, name, kind, mean, scale, weights, buckets)"
            " VALUES (%s, %s, %s, %s, %s, %s, %s)",
            [
                (
                    generation,
                    column.name,
                    column.kind,
                    _listed(column.mean),
                    _listed(column.scale),
                    _listed(column.weights),
                    column.buckets,
                )
                for column in columns
            ],
        )
    name = table(PROFILE, generation)
    connection.execute(
        sql.SQL(
            "CREATE TABLE {} (name text NOT NULL, token text NOT NULL,"
            " embedding {}.vector({}) NOT NULL)"
        ).format(name, extension_schema(connection), sql.Literal(dim))
    )
    keys = [(column.name, token) for column in columns for token in column.tokens]
    matrix = np.concatenate(
        [np.zeros((0, dim), np.float32), *(column.embeddings for column in columns)]
    )
    statement = sql.SQL("COPY {} FROM STDIN (FORMAT binary, FREEZE)").format(name)
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for block in vectors.texts_to_copy(keys, matrix):
            copy.write(block)
    finish(connection, name, "name", "token")
    connection.execute(sql.SQL("ANALYZE {}").format(name))


def delete_columns(connection: Connection, generation: int) -> None:
    """Delete a generation's rows of profile_columns."""
    connection.execute("DELETE FROM tterec.profile_columns WHERE generation = %s", (generation,))


def _listed(values: NDArray[np.floating] | None) -> list[float] | None:
    return None if values is None else values.tolist()
