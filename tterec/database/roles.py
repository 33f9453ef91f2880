"""The role `tterec_reader`: may read the tables and call the functions, nothing more."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from psycopg import errors as pg

from tterec.database.connection import Connection

READER = "tterec_reader"
CREATE_READER = f"CREATE ROLE {READER} NOLOGIN"


def reader_exists(connection: Connection) -> bool:
    """Roles belong to the cluster, not to the database: it may come from elsewhere."""
    row = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (READER,)).fetchone()
    return row is not None


def grant(connection: Connection) -> None:
    """Grant the readers' role what exists and what will come, and PUBLIC nothing.

    The role is created where that is permitted.
    """
    callable_ones = _close_functions(connection)
    if not reader_exists(connection):
        try:
            with connection.transaction():
                connection.execute(CREATE_READER)
        except pg.InsufficientPrivilege:
            return
        except (pg.DuplicateObject, pg.UniqueViolation):
            pass  # another database of this cluster was upgraded at the same moment
    connection.execute(
        f"""
        GRANT USAGE ON SCHEMA tterec TO {READER};
        GRANT SELECT ON ALL TABLES IN SCHEMA tterec TO {READER};
        ALTER DEFAULT PRIVILEGES IN SCHEMA tterec GRANT SELECT ON TABLES TO {READER};
        """
    )
    if callable_ones:
        connection.execute(f"GRANT EXECUTE ON FUNCTION {callable_ones} TO {READER}".encode())


def _close_functions(connection: Connection) -> str:
    """Take our functions from PUBLIC, who may call every new one; those that readers may call.

    They are those that run with the caller's rights: one that runs with its owner's writes what
    the caller may not.
    """
    rows = connection.execute(
        """
        SELECT oid::regprocedure::text, prosecdef FROM pg_proc
        WHERE pronamespace = 'tterec'::regnamespace AND prokind = 'f'
            AND pg_has_role(proowner, 'USAGE')
        """
    ).fetchall()
    if rows:
        names = ", ".join(name for name, _ in rows)
        connection.execute(f"REVOKE ALL ON FUNCTION {names} FROM PUBLIC".encode())
    return ", ".join(name for name, definer in rows if not definer)


def grant_functions(connection: Connection, names: Sequence[str]) -> None:
    """Let readers, and not PUBLIC, call these functions that were made just now."""
    if names:
        listed = ", ".join(names)
        connection.execute(f"REVOKE ALL ON FUNCTION {listed} FROM PUBLIC".encode())
        if reader_exists(connection):
            connection.execute(f"GRANT EXECUTE ON FUNCTION {listed} TO {READER}".encode())


def missing_reader(connection: Connection) -> str | None:
    """What a DBA must run where the role could not be created; None where it exists."""
    if reader_exists(connection):
        return None
    name = shlex.quote(connection.info.dbname)
    return f"psql -d {name} -c '{CREATE_READER}' && tterec db upgrade"
