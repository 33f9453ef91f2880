"""The verbs, assembled from the rooms."""

from __future__ import annotations

from pathlib import Path

from tterec.database import functions, schema
from tterec.database.connection import Database
from tterec.records import ProgressCallback, ignore
from tterec.store import load as loading
from tterec.store import sources
from tterec.store.load_summary import LoadSummary


def upgrade(database: Database) -> None:
    """Bring the schema, the source views and the SQL functions to this version, or nothing."""
    with schema.upgrading(database) as connection:
        sources.install(connection)
        functions.apply(connection)


def load(
    database: Database,
    *,
    users: Path | None = None,
    books: Path | None = None,
    ratings: Path | None = None,
    strict: bool = False,
    zero_is_a_rating: bool = False,
    progress: ProgressCallback = ignore,
) -> LoadSummary:
    """Load CSV files in one transaction; see `tterec.store.load.load`."""
    return loading.load(
        database,
        users=users,
        books=books,
        ratings=ratings,
        strict=strict,
        zero_is_a_rating=zero_is_a_rating,
        progress=progress,
    )
