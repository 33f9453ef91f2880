"""Columns of the items query, as of now, for items that are about to be listed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from psycopg import sql

from tterec import errors
from tterec.database.connection import Connection
from tterec.records import Column, Kind
from tterec.store import kinds, sources
from tterec.store.keys import Id

_ASKED: dict[Kind, str] = {
    "number": "s.{column}::float8",
    "date": "(extract(epoch FROM s.{column}) / 86400)::float8",
    "boolean": "s.{column}::int::float8",
    "text": "s.{column}::text",
}
_CALLED: dict[Kind, str] = {
    "number": "a number",
    "date": "a date",
    "boolean": "a boolean",
    "text": "text",
}


def item_columns(
    connection: Connection,
    wanted: Sequence[tuple[str, tuple[Kind, ...]]],
    item_ids: NDArray[np.int64],
) -> list[Column]:
    """The wanted columns for `item_ids` (n,), each a name and the kinds that it may be of.

    Kinds are number, date, boolean and text, which any column is where text is what is wanted.
    Values stand as in FeatureTable; an item that the items query does not return has NULLs.
    Raises InvalidArgument for a column that there is not, or is of another kind.
    """
    if not wanted:
        return []
    described = kinds.describe(connection, "items", "TABLE tterec.source_items")
    found: list[tuple[str, Kind]] = []
    for name, accepted in wanted:
        if name not in described:
            raise errors.InvalidArgument(
                f"the items query returns no column {name}; it returns {', '.join(described)}; "
                "add it to the query, or say which of them is meant: --author-column, "
                "--year-column, --available-column, or in Python those of Rules"
            )
        kind = "text" if accepted == ("text",) else described[name].kind
        if kind not in accepted:
            raise errors.InvalidArgument(
                f"the column {name} of the items query is {described[name].sql_type}; name one "
                f"that is {' or '.join(_CALLED[one] for one in accepted)}"
            )
        found.append((name, kind))
    types = {name: column.sql_type for name, column in described.items()}
    id_ = Id("item_id", sources.is_text_id(types, "items", "item_id"))
    # Every part of these texts is ours, but for the names of columns.
    asked: list[sql.Composable] = [sql.SQL(f"{id_.value}::bigint")]
    for name, kind in found:
        asked.append(sql.SQL(_ASKED[kind]).format(column=sql.Identifier(name)))
    query = sql.SQL(
        f"SELECT {{asked}} FROM tterec.source_items s{id_.join}"
        f" WHERE {id_.value} = ANY (%s::bigint[])"
    ).format(asked=sql.SQL(", ").join(asked))
    with sources.refused("items"):
        rows = connection.execute(query, (item_ids,), binary=True).fetchall()
    by_id = {row[0]: row[1:] for row in rows}
    nothing = (None,) * len(found)
    values = [by_id.get(item_id, nothing) for item_id in item_ids.tolist()]
    return [
        Column(
            name, kind, np.array([row[i] for row in values], object if kind == "text" else float)
        )
        for i, (name, kind) in enumerate(found)
    ]
