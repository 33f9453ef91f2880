"""The demo's database: one of its own, so that invented books never mix with a shop's."""

from __future__ import annotations

from contextlib import suppress

from psycopg import errors as pg
from psycopg import sql

from tterec import config, errors
from tterec.database import address
from tterec.database.connection import Connection, Database

NAME = "tterec_demo"

# Value: which bookshop the database holds.
_KEY = "demo"


def on_embedded_server(name: str = NAME) -> Database:
    """A database of the embedded server; created there if there is none, without a schema."""
    with (
        Database.resolve().connect(autocommit=True) as connection,
        # It was made by an earlier demo, or by one that runs now.
        suppress(pg.DuplicateDatabase, pg.UniqueViolation),
    ):
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    known = address.recorded(config.home())
    if known is None:
        raise errors.EmbeddedServerError("the embedded server was stopped; run: tterec demo")
    # Not `EMBEDDED`: who reconnects to that is given the server's other database.
    return Database(known.url(name), "demo")


def claim(connection: Connection, bookshop: str) -> None:
    """Note which bookshop the database is to hold, before it is loaded.

    Raises InvalidArgument if it holds anything else: another bookshop, or somebody's own data.
    """
    row = connection.execute(
        "SELECT value FROM tterec.schema_state WHERE key = %s", (_KEY,)
    ).fetchone()
    if row == (bookshop,):
        return
    where = f"the database {connection.info.dbname}"
    if row is not None:
        raise errors.InvalidArgument(
            f"{where} holds another bookshop ({row[0]}, not {bookshop}); "
            f"drop it (psql \"$(tterec db url)\" -c 'DROP DATABASE {connection.info.dbname}'), "
            "or name an empty one: tterec demo --database-url URL"
        )
    taken = connection.execute(
        "SELECT EXISTS (SELECT FROM tterec.books) OR EXISTS (SELECT FROM tterec.users)"
        " OR EXISTS (SELECT FROM tterec.schema_state WHERE key = 'sources' AND value = 'custom')"
    ).fetchone()
    if taken != (False,):
        raise errors.InvalidArgument(
            f"{where} holds data of yours, with which the demo's would mix; "
            "name an empty database: tterec demo --database-url URL"
        )
    connection.execute(
        "INSERT INTO tterec.schema_state (key, value) VALUES (%s, %s)", (_KEY, bookshop)
    )
