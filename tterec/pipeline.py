"""The verbs, assembled from the rooms."""

from __future__ import annotations

from tterec.database import functions, schema
from tterec.database.connection import Database
from tterec.store import sources


def upgrade(database: Database) -> None:
    """Bring the schema, the source views and the SQL functions to this version, or nothing."""
    with schema.upgrading(database) as connection:
        sources.install(connection)
        functions.apply(connection)
