"""The role `tterec_reader`: may read the tables and call the functions, nothing more."""

from __future__ import annotations

import shlex

from psycopg import errors as pg

from tterec.database.connection import Connection

READER = "tterec_reader"
CREATE_READER = f"CREATE ROLE {READER} NOLOGIN"


def reader_exists(connection: Connection) -> bool:
    """Roles belong to the cluster, not to the database: it may come from elsewhere."""
    row = connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (READER,)).fetchone()
    return row is not None


def grant_reader(connection: Connection) -> None:
    """Create the role where that is permitted, and grant it what exists and what will come."""
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


def missing_reader(connection: Connection) -> str | None:
    """What a DBA must run where the role could not be created; None where it exists."""
    if reader_exists(connection):
        return None
    name = shlex.quote(connection.info.dbname)
    return f"psql -d {name} -c '{CREATE_READER}' && tterec db upgrade"
