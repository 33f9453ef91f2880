"""Migrating the schema, and noticing that it was not migrated."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from psycopg import errors as pg
from psycopg import sql

from tterec import errors
from tterec.database import functions, ownership, pgvector, roles
from tterec.database.connection import Connection, Database
from tterec.database.resources import directory

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection as SqlalchemyConnection

HEAD = "0006"
"""The newest migration; a test compares it with the files."""

VIEWS = (
    "source_interactions",
    "source_users",
    "source_items",
    "interactions",
    "user_interactions",
    "named_interactions",
    "catalogue",
)
"""The views that training, serving and the SQL functions read."""

LIVE_VIEWS = ("live_item_vectors", "live_history_vectors", "live_profile_vectors")
"""The views on the live generation's vectors, that other programs read."""

# Any constant will do, as long as every tterec takes the same one while it migrates.
_LOCK = 0x7474_6572_6563  # "tterec"
_LOCK_TIMEOUT = "30s"


def current(connection: Connection) -> str | None:
    """The revision of the database's schema; None where tterec was never set up."""
    present = connection.execute(
        "SELECT to_regclass('tterec.alembic_version') IS NOT NULL"
    ).fetchone()
    if present != (True,):
        return None
    row = connection.execute("SELECT version_num FROM tterec.alembic_version").fetchone()
    return None if row is None else str(row[0])


def require_current(connection: Connection) -> None:
    """Refuse to work on a schema of another version; one SELECT. Raises SchemaOutdated."""
    try:
        row = connection.execute("SELECT version_num FROM tterec.alembic_version").fetchone()
    except (pg.UndefinedTable, pg.InvalidSchemaName):
        raise errors.SchemaOutdated(
            "this database has no tterec schema yet; run: tterec db upgrade"
        ) from None
    except pg.InsufficientPrivilege:
        raise errors.DatabaseError(
            "this role may not read the schema tterec; "
            "its owner must run: GRANT tterec_reader TO your_role"
        ) from None
    found = "nothing" if row is None else row[0]
    if found == HEAD:
        return
    if str(found) > HEAD:
        raise errors.SchemaOutdated(
            f"the database schema is at {found}, newer than this tterec ({HEAD}); "
            "run: pip install --upgrade tterec"
        )
    raise errors.SchemaOutdated(
        f"the database schema is at {found}, this tterec needs {HEAD}; run: tterec db upgrade"
    )


@contextmanager
def upgrading(database: Database, first: Callable[[Connection], None]) -> Iterator[Connection]:
    """Migrate to HEAD and yield the connection, in whose transaction the caller adds the rest.

    One process migrates at a time (advisory lock); a table in use for longer than
    lock_timeout makes the upgrade give up with Busy and leaves everything as it was. `first`
    may refuse before anything is changed.
    """
    with database.engine() as engine, engine.begin() as outer:
        connection = cast(Connection, outer.connection.driver_connection)
        connection.execute("SET LOCAL statement_timeout = 0")  # big tables are rewritten in time
        connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
        first(connection)
        found = current(connection)
        if found is not None and found > HEAD:
            require_current(connection)
        ownership.require(connection)
        pgvector.ensure_extension(connection)
        # Alembic writes its version table here, so the schema comes first.
        create(connection, "tterec")
        _migrate(outer)
        yield connection
        roles.grant(connection)


def create(connection: Connection, schema: str) -> None:
    """Create a schema if there is none. Raises DatabaseError with the line that permits it."""
    if connection.execute("SELECT to_regnamespace(%s)", (schema,)).fetchone() != (None,):
        return  # IF NOT EXISTS would ask for the privilege all the same
    try:
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))
    except pg.InsufficientPrivilege:
        name, role = connection.info.dbname, connection.info.user
        statement = sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(
            sql.Identifier(name), sql.Identifier(role)
        )
        line = f"psql -d {shlex.quote(name)} -c {shlex.quote(statement.as_string())}"
        raise errors.DatabaseError(
            f"the role {role} may not create the schema {schema}; the database's owner must run: "
            + line
        ) from None


def _migrate(connection: SqlalchemyConnection) -> None:
    from alembic import command

    command.upgrade(_alembic_config(connection), "head")


def _alembic_config(connection: SqlalchemyConnection | None = None) -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(directory("migrations")).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    if connection is not None:
        config.attributes["connection"] = connection
    return config


def differences(database: Database) -> list[str]:
    """How the database differs from what this version describes; empty if they agree."""
    found = _table_differences(database)
    with database.connect() as connection:
        missing = missing_views(connection, VIEWS + LIVE_VIEWS)
        found += [f"missing view: tterec.{name}" for name in missing]
        return found + functions.differences(connection)


def missing_views(connection: Connection, names: Sequence[str] = VIEWS) -> list[str]:
    """Those of the views that the database does not have."""
    rows = connection.execute("SELECT viewname FROM pg_views WHERE schemaname = 'tterec'")
    present = {name for (name,) in rows}
    return [name for name in names if name not in present]


def _table_differences(database: Database) -> list[str]:
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    from tterec.database.tables import SCHEMA, metadata

    described = {table.name for table in metadata.tables.values()}

    def ours(name: str | None, kind: str, parents: Any) -> bool:
        if kind == "schema":
            return name == SCHEMA
        return kind != "table" or (parents["schema_name"] == SCHEMA and name in described)

    with database.engine() as engine, engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={"include_schemas": True, "include_name": ours, "version_table_schema": SCHEMA},
        )
        return [_described(change) for change in compare_metadata(context, metadata)]


def _described(change: Any) -> str:
    if isinstance(change, list):  # column changes come grouped
        return "; ".join(_described(one) for one in change)
    verb, *what = change
    named = [
        getattr(part, "fullname", None) or getattr(part, "name", None) or part for part in what
    ]
    return f"{str(verb).replace('_', ' ')}: {' '.join(str(part) for part in named if part)}"
