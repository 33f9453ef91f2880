"""The interactions query, read into arrays and checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tterec import errors
from tterec.database.connection import Connection
from tterec.records import Interactions, Progress, ProgressCallback
from tterec.store.copy_out import read_fixed
from tterec.store.keys import Id
from tterec.store.kinds import QueryColumn

# For "no id": NULL has no width in binary, and no identity column ever comes to this.
_NO_ID = -(2**63)

# What training holds of an interaction at its peak, beside what is read: 123 bytes were measured,
# in towers.batches, whatever the number.
_BYTES_TO_LEARN = 125

_COLUMNS = {"user_id": "i8", "item_id": "i8", "rating": "f8", "rated_at": "f8"}


def check_columns(columns: Mapping[str, QueryColumn]) -> None:
    """Raise SourceError if rating is missing or not a number, or rated_at is not a date."""
    rating, rated_at = columns.get("rating"), columns.get("rated_at")
    if rating is None:
        raise errors.SourceError(
            f"the interactions query returns no column rating; it returns {', '.join(columns)}; "
            "where nobody rates, add: NULL::real AS rating"
        )
    if rating.kind != "number":
        raise errors.SourceError(
            f"rating of the interactions query is {rating.sql_type}; cast it to real"
        )
    if rated_at is not None and rated_at.kind != "date":
        raise errors.SourceError(
            f"rated_at of the interactions query is {rated_at.sql_type}; cast it to timestamptz"
        )


def read_interactions(
    connection: Connection,
    query: str,
    ids: tuple[Id, Id],
    has_rated_at: bool,
    progress: ProgressCallback,
) -> Interactions:
    """All interactions, ordered by user and item.

    `ids` are those of users and items. Raises SourceError with a count and an example for rows
    without id, ratings outside 0 to 10 and pairs that come more than once; and as soon as what is
    read leaves no room to learn from it.
    """
    user, item = ids
    rated_at = (
        "extract(epoch FROM s.rated_at::timestamptz)::float8" if has_rated_at else "NULL::float8"
    )
    # NaN stands for NULL, so a NaN that was there must become another thing outside 0 to 10.
    statement = (
        f"SELECT coalesce({user.value}, {_NO_ID})::bigint,"
        f" coalesce({item.value}, {_NO_ID})::bigint,"
        " CASE WHEN s.rating IS NULL THEN 'NaN' WHEN s.rating::float8 = 'NaN' THEN '-Infinity'"
        f" ELSE s.rating::float8 END, coalesce({rated_at}, 'NaN')"
        f" FROM (\n{query}\n) s{user.join}{item.join} WHERE {user.known} AND {item.known}"
    )
    parts: dict[str, list[NDArray[Any]]] = {name: [] for name in _COLUMNS}
    read = 0
    for block in read_fixed(connection, statement, _COLUMNS):
        for name, values in block.items():
            parts[name].append(values)
        read += len(block["rating"])
        _check_room(read)
        progress(Progress("read interactions", read))
    # One column after the other, so that two copies of everything are never held.
    columns = {name: _joined(parts.pop(name), kind) for name, kind in _COLUMNS.items()}
    found = Interactions(
        user_ids=columns["user_id"],
        item_ids=columns["item_id"],
        ratings=columns["rating"],
        rated_at=columns["rated_at"],
    )
    _check_ids(found, ids)
    _check_ratings(connection, found, ids)
    found = _ordered(found)
    _check_pairs(connection, found, ids)
    return found


def of_items(interactions: Interactions, item_ids: NDArray[np.int64]) -> Interactions:
    """Those whose item is among `item_ids`, which are ascending."""
    if len(item_ids) == 0:
        return _select(interactions, np.zeros(len(interactions), dtype=bool))
    places = np.searchsorted(item_ids, interactions.item_ids).clip(max=len(item_ids) - 1)
    known = item_ids[places] == interactions.item_ids
    return interactions if known.all() else _select(interactions, known)


def _check_room(read: int) -> None:
    import psutil

    free = psutil.virtual_memory().available
    if read * _BYTES_TO_LEARN > free:
        raise errors.SourceError(
            f"the interactions query returns {read:,} rows and more, which do not fit into memory: "
            f"{free / 2**30:.1f} GB are free, and learning from them takes {_BYTES_TO_LEARN} bytes "
            "a row; return fewer, such as those of the last years, or train on a larger machine"
        )


def _joined(parts: list[NDArray[Any]], kind: str) -> NDArray[Any]:
    return np.concatenate(parts) if parts else np.empty(0, dtype=kind)


def _check_ids(found: Interactions, ids: tuple[Id, Id]) -> None:
    for id_, values in zip(ids, (found.user_ids, found.item_ids), strict=True):
        missing = int((values == _NO_ID).sum())
        if missing:
            raise errors.SourceError(
                f"{id_.column} is NULL in {missing:,} rows of the interactions query; "
                f"add: WHERE {id_.column} IS NOT NULL"
            )


def _check_ratings(connection: Connection, found: Interactions, ids: tuple[Id, Id]) -> None:
    ratings = found.ratings
    outside = np.flatnonzero(~(np.isnan(ratings) | ((ratings >= 0) & (ratings <= 10))))
    if not len(outside):
        return
    first = int(outside[0])
    value = "NaN" if np.isneginf(ratings[first]) else f"{ratings[first]:g}"
    raise errors.SourceError(
        f"{len(outside):,} ratings of the interactions query are outside 0 to 10, such as {value} "
        f"({_example(connection, found, first, ids)}); scale them in the query, or make them NULL"
    )


def _ordered(found: Interactions) -> Interactions:
    """By user, then item, which makes training reproducible; ratings as float32."""
    ratings = found.ratings.astype(np.float32)
    found = Interactions(found.user_ids, found.item_ids, ratings, found.rated_at)
    same_user = np.diff(found.user_ids) == 0
    rising = (np.diff(found.user_ids) > 0) | (same_user & (np.diff(found.item_ids) >= 0))
    if rising.all():
        return found
    return _select(found, np.lexsort((found.item_ids, found.user_ids)))


def _check_pairs(connection: Connection, found: Interactions, ids: tuple[Id, Id]) -> None:
    repeated = np.flatnonzero((np.diff(found.user_ids) == 0) & (np.diff(found.item_ids) == 0))
    if len(repeated):
        raise errors.SourceError(
            f"{len(repeated):,} rows of the interactions query repeat a user and item, such as "
            f"{_example(connection, found, int(repeated[0]), ids)}; make them one: "
            "SELECT user_id, item_id, max(rating) AS rating ... GROUP BY user_id, item_id"
        )


def _example(connection: Connection, found: Interactions, row: int, ids: tuple[Id, Id]) -> str:
    user, item = ids
    return (
        f"user_id {user.shown(connection, int(found.user_ids[row]))}, "
        f"item_id {item.shown(connection, int(found.item_ids[row]))}"
    )


def _select(found: Interactions, rows: NDArray[Any]) -> Interactions:
    return Interactions(
        found.user_ids[rows], found.item_ids[rows], found.ratings[rows], found.rated_at[rows]
    )
