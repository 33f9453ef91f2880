"""Whether a shop's own tables, under the source views, can be read, and quickly."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
from psycopg import errors as pg
from psycopg import sql

from tterec.database.connection import Connection
from tterec.database.findings import Finding, value

_SOURCES = ("interactions", "users", "items")
# What a recommendation asks of them, for each list or each line of one.
_LOOKUPS = {
    "interactions": sql.SQL("SELECT * FROM tterec.user_interactions WHERE user_id = 1"),
    "items": sql.SQL("SELECT isbn, title FROM tterec.catalogue WHERE item_id = 1"),
}
# Reading it whole takes a millisecond.
_ROWS_WORTH_AN_INDEX = 10_000


def unreadable(connection: Connection) -> Iterator[Finding]:
    """The source views that Postgres refuses to read: then nothing is recommended."""
    for name in _SOURCES:
        view = sql.Identifier("tterec", f"source_{name}")
        try:
            with connection.transaction():
                connection.execute(sql.SQL("SELECT FROM {} LIMIT 0").format(view))
        except psycopg.ProgrammingError as error:
            owner = value(
                connection,
                "SELECT quote_ident(viewowner) FROM pg_views"
                " WHERE schemaname = 'tterec' AND viewname = %s",
                f"source_{name}",
            )
            mend = f"see what it reads: psql -c '\\d+ tterec.source_{name}'"
            if isinstance(error, pg.InsufficientPrivilege):
                mend = (
                    f"the owner of what is named must run: GRANT SELECT ON TABLE it TO {owner}, "
                    f"or, of a schema: GRANT USAGE ON SCHEMA it TO {owner}"
                )
            said = " ".join(str(error).split())
            yield Finding(True, f"the {name} query cannot be read by {owner}: {said}", mend)


def unindexed(connection: Connection) -> Iterator[Finding]:
    """Large tables of which a recommendation reads all rows to find those of one user or item."""
    if value(connection, "SELECT value FROM tterec.schema_state WHERE key = 'sources'") != "custom":
        return
    for name, lookup in _LOOKUPS.items():
        plan = value(connection, sql.SQL("EXPLAIN (VERBOSE, FORMAT json) {}").format(lookup))
        one = "a user's interactions" if name == "interactions" else "an item"
        for table in sorted(set(_read_whole(plan[0]["Plan"]))):
            shown = sql.Identifier(*table).as_string(connection)
            rows = value(
                connection, "SELECT reltuples::bigint FROM pg_class WHERE oid = %s::regclass", shown
            )
            if rows >= _ROWS_WORTH_AN_INDEX:
                yield Finding(
                    False,
                    f"to find {one}, each recommendation reads all {rows:,} rows of {shown}",
                    f"psql: CREATE INDEX ON {shown} (the column by which the {name} query finds "
                    f"{one} there); ANALYZE {shown}. If there is one, the query keeps it from "
                    "being used, such as by GROUP BY: see README, Your own tables",
                )


def _read_whole(node: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Schema and name of the tables that a plan scans."""
    if node["Node Type"] == "Seq Scan":
        yield node["Schema"], node["Relation Name"]
    for child in node.get("Plans", []):
        yield from _read_whole(child)
