"""What the doctor finds, and what its rooms have in common."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, LiteralString

from psycopg import sql

from tterec.database.connection import EMBEDDED, Connection, Database


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to know: a problem, or a note that needs nobody's hurry; and what mends it."""

    problem: bool
    what: str
    mend: str


def value(connection: Connection, query: LiteralString | sql.Composed, *parameters: object) -> Any:
    """The first column of the first row; None without a row."""
    row = connection.execute(query, parameters or None).fetchone()
    return None if row is None else row[0]


def megabytes(count: int) -> str:
    """For people, and for Postgres' settings once the blank is out."""
    return f"{-(-count // 2**20)} MB"


def is_local(connection: Connection, database: Database) -> bool:
    """Whether the server is on this computer, as far as can be told."""
    return database.origin == EMBEDDED or connection.info.host.startswith("/")
