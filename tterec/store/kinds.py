"""What a query's columns are to the towers: their SQL types decide."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import get_args

from tterec import errors
from tterec.database.connection import Connection
from tterec.records import Kind
from tterec.store import sources

Kinds = dict[str, dict[str, str]]
"""By query and column name: `kinds["items"]["year"] == "number"`."""

_NUMBERS = ("int2", "int4", "int8", "float4", "float8", "numeric")
_DATES = ("date", "timestamp", "timestamptz")
_VECTORS = ("vector", "halfvec")
_VECTOR_ELEMENTS = ("float4", "float8")


@dataclass(frozen=True, slots=True)
class QueryColumn:
    """A column that a query returns: its SQL type, and its kind, None where it has none."""

    name: str
    sql_type: str
    kind: Kind | None


def describe(connection: Connection, name: str, query: str) -> dict[str, QueryColumn]:
    """The columns that a query returns, by name, in order. Raises SourceError if it is refused.

    Nothing is read: the server only plans the query. A domain counts as what it is based on.
    """
    with sources.refused(name):
        # In binary mode the server takes one statement and refuses a second.
        cursor = connection.execute(
            f"SELECT * FROM (\n{query}\n) AS source LIMIT 0".encode(), binary=True
        )
    described = [(column.name, column.type_code) for column in cursor.description or ()]
    types = {
        row[0]: row[1:]
        for row in connection.execute(
            "SELECT t.oid, format_type(t.oid, NULL), t.typname, t.typcategory, e.typname,"
            " e.typcategory"
            " FROM pg_type t LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'"
            " WHERE t.oid = ANY (%s)",
            ([code for _, code in described],),
        )
    }
    columns: dict[str, QueryColumn] = {}
    for column, code in described:
        if column in columns:
            raise errors.SourceError(f"the {name} query returns the column {column} twice")
        sql_type, *properties = types[code]
        columns[column] = QueryColumn(column, sql_type, _kind(*properties))
    return columns


def _kind(  # noqa: PLR0911 (a table)
    name: str, category: str, element: str | None, element_category: str | None
) -> Kind | None:
    # Postgres's categories: A array, E enum, S string.
    if name in _NUMBERS:
        return "number"
    if name in _DATES:
        return "date"
    if name in _VECTORS or element in _VECTOR_ELEMENTS:
        return "vector"
    if name == "bool":
        return "boolean"
    if category in ("S", "E") or name == "uuid":
        return "text"
    if category == "A" and (element_category in ("S", "E") or element == "uuid"):
        return "text[]"
    return None


def features(name: str, columns: Mapping[str, QueryColumn]) -> list[QueryColumn]:
    """The feature columns of the users or items query: all but its identity.

    Raises SourceError for a column of a type that no feature is made of.
    """
    identity = {"users": ("user_id",), "items": ("item_id", "isbn")}[name]
    found = [column for column in columns.values() if column.name not in identity]
    for column in found:
        if column.kind is None:
            raise errors.SourceError(
                f"{name}.{column.name} is {column.sql_type}, of which no feature is made; cast "
                f"it in the {name} query to one of {', '.join(get_args(Kind))}, or leave it out"
            )
    return found


def check_kinds(kinds: Kinds, previous: Kinds, generation: int) -> None:
    """Raise SourceError for the first column that was of another kind in an earlier generation."""
    for name, columns in kinds.items():
        for column, kind in columns.items():
            before = previous.get(name, {}).get(column)
            if before is not None and before != kind:
                raise errors.SourceError(
                    f"{name}.{column} was {before} in generation {generation} and is {kind} now; "
                    f"cast it in the {name} query, or accept it: tterec train --accept-new-types"
                )
