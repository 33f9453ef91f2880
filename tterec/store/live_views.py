"""Views on the live generation's vectors, for programs that write their own ORDER BY."""

from __future__ import annotations

from psycopg import sql

from tterec.database import roles
from tterec.database.connection import Connection
from tterec.database.pgvector import extension_schema
from tterec.store.vector_tables import KINDS, table

VIEWS = {
    "live_item_vectors": "item_vectors",
    "live_history_vectors": "history_vectors",
    "live_profile_vectors": "user_vectors",
}
"""The views, and the kind of vectors that each of them shows."""


def define(connection: Connection, generation: int | None) -> None:
    """(Re-)define the views, in the caller's transaction; without a generation they are empty.

    `embedding` is a plain vector, so that a generation of other dimensions can take the place of
    this one. A snapshot from before a promotion would read the new vectors, beside functions that
    still compute with the old: to it the views are empty.
    """
    vector = sql.SQL("{}.vector").format(extension_schema(connection))
    for name, kind in VIEWS.items():
        view, key = sql.Identifier("tterec", name), sql.Identifier(KINDS[kind])
        if generation is None:
            rows = sql.SQL("SELECT NULL::bigint AS {}, NULL::{} AS embedding WHERE false").format(
                key, vector
            )
        else:
            rows = sql.SQL(
                "SELECT v.{} AS {}, v.embedding::{} AS embedding FROM {} v"
                " WHERE (SELECT a.generation FROM tterec.active_model a) = {}"
            ).format(key, key, vector, table(kind, generation), sql.Literal(generation))
        connection.execute(sql.SQL("CREATE OR REPLACE VIEW {} AS {}").format(view, rows))
        if roles.reader_exists(connection):
            connection.execute(
                sql.SQL("GRANT SELECT ON {} TO {}").format(view, sql.Identifier(roles.READER))
            )


def install(connection: Connection) -> None:
    """Define the views as of now."""
    row = connection.execute("SELECT generation FROM tterec.active_model").fetchone()
    define(connection, None if row is None else int(row[0]))
