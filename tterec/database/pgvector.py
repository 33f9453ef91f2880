"""The pgvector extension: is it there, is it new enough, and where are its operators?"""

from __future__ import annotations

import shlex

from psycopg import errors as pg
from psycopg import sql

from tterec import errors
from tterec.database.connection import Connection

# Iterative index scans, without which a filtered query may return nothing, came with 0.8.0.
OLDEST = (0, 8, 0)

INSTALL = (
    "install the server's pgvector package (Debian: apt install postgresql-18-pgvector) or use the "
    "image pgvector/pgvector:pg18"
)
"""What whoever runs a server without pgvector, or with an old one, has to do."""


def version(text: str) -> tuple[int, ...]:
    """'0.8.5' as (0, 8, 5)."""
    return tuple(int(part) for part in text.split(".") if part.isdigit())


def installed(connection: Connection) -> str | None:
    """The extension's version in this database; None where it was not created."""
    row = connection.execute(
        "SELECT extversion FROM pg_extension WHERE extname = 'vector'"
    ).fetchone()
    return None if row is None else str(row[0])


def ensure_extension(connection: Connection) -> None:
    """Create or update the extension, or raise PgvectorMissing with the line a DBA must run."""
    row = connection.execute(
        "SELECT default_version, installed_version FROM pg_available_extensions"
        " WHERE name = 'vector'"
    ).fetchone()
    if row is None:
        raise errors.PgvectorMissing(
            f"this server has no pgvector; {INSTALL}; then run: tterec db upgrade"
        )
    available, installed = row
    newest = version(available)
    if installed is not None and version(installed) >= OLDEST:
        return
    if newest < OLDEST:
        raise errors.PgvectorMissing(
            f"this server's pgvector is {available}, tterec needs 0.8.0 or newer; {INSTALL}; "
            "then run: tterec db upgrade"
        )
    statement = "CREATE EXTENSION vector" if installed is None else "ALTER EXTENSION vector UPDATE"
    try:
        with connection.transaction():
            connection.execute(statement)
    except pg.InsufficientPrivilege:
        name = shlex.quote(connection.info.dbname)
        raise errors.PgvectorMissing(
            f"this role may not install pgvector; a DBA must run: psql -d {name} -c '{statement}'"
        ) from None


def extension_schema(connection: Connection) -> sql.Identifier:
    """The schema that holds the type `vector` and its operators."""
    row = connection.execute(
        "SELECT n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace"
        " WHERE e.extname = 'vector'"
    ).fetchone()
    if row is None:
        raise errors.PgvectorMissing()
    return sql.Identifier(row[0])
