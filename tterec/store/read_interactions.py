"""The interactions query, read into arrays and checked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tterec import arrays, errors, grouping
from tterec.database.connection import Connection
from tterec.records import Interactions, Progress, ProgressCallback
from tterec.store.copy_out import read_fixed
from tterec.store.keys import Id
from tterec.store.kinds import QueryColumn

# For "no id": NULL has no width in binary, and no identity column ever comes to this.
_NO_ID = -(2**63)

_WIRE = {"user_id": "i8", "item_id": "i8", "rating": "f8"}
_HELD = {"user_id": "i8", "item_id": "i8", "rating": "f4", "rated_at": "f8"}

_Columns = dict[str, NDArray[Any]]


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
    *,
    has_rated_at: bool,
    item_ids: NDArray[np.int64],
    progress: ProgressCallback,
) -> tuple[Interactions, int]:
    """The interactions with these items (ascending ids), ordered by user and item; and how many
    others there are.

    `ids` are those of users and items. What does not fit into memory is in files. Raises
    SourceError with a count and an example for rows without id, ratings outside 0 to 10 and pairs
    that come more than once.
    """
    user, item = ids
    # NaN stands for NULL, so a NaN that was there must become another thing outside 0 to 10.
    statement = (
        f"SELECT coalesce({user.value}, {_NO_ID})::bigint AS user_id,"
        f" coalesce({item.value}, {_NO_ID})::bigint AS item_id,"
        " CASE WHEN s.rating IS NULL THEN 'NaN' WHEN s.rating::float8 = 'NaN' THEN '-Infinity'"
        " ELSE s.rating::float8 END AS rating"
    )
    if has_rated_at:
        statement += (
            ", coalesce(extract(epoch FROM s.rated_at::timestamptz)::float8, 'NaN') AS rated_at"
        )
    statement += f" FROM (\n{query}\n) s{user.join}{item.join} WHERE {user.known} AND {item.known}"
    found = _Found(has_rated_at)
    try:
        # A savepoint: to break off a COPY ends a transaction.
        with connection.transaction(), found.closing():
            found.read(connection, statement, progress, sorted_by_server=False)
    except _Outgrown:
        found = _Found(has_rated_at)
        with found.closing():
            found.read(connection, statement + " ORDER BY 1, 2", progress, sorted_by_server=True)
    _check_ids(found, ids)
    _check_ratings(connection, found, ids)
    columns = found.columns()
    _sort(columns)
    _check_pairs(connection, columns, ids)
    read = len(columns["user_id"])
    kept = _keep(columns, item_ids)
    if not has_rated_at:
        columns["rated_at"] = np.broadcast_to(np.float64(np.nan), kept)
    interactions = Interactions(
        columns["user_id"], columns["item_id"], columns["rating"], columns["rated_at"]
    )
    return interactions, read - kept


class _Outgrown(Exception):
    """What was read no longer fits into memory, and is in no order."""


class _Found:
    """What a query has returned: its columns, and what is wrong with them.

    missing: rows without the user's and without the item's id. outside: ratings outside 0 to 10;
    example: the first of these, with its user's and its item's id.
    """

    def __init__(self, has_rated_at: bool) -> None:
        names = [*_WIRE, *(["rated_at"] if has_rated_at else [])]
        self._wire = {name: _WIRE.get(name, "f8") for name in names}
        self._columns = {name: arrays.Column(_HELD[name]) for name in names}
        self.missing = [0, 0]
        self.outside = 0
        self.example: tuple[float, int, int] | None = None

    def read(
        self,
        connection: Connection,
        statement: str,
        progress: ProgressCallback,
        *,
        sorted_by_server: bool,
    ) -> None:
        """Read all of it. Raises _Outgrown where what a file must hold would have to be sorted."""
        read, in_order, last = 0, True, (_NO_ID, _NO_ID)
        for block in read_fixed(connection, statement, self._wire):
            users, items, ratings = block["user_id"], block["item_id"], block["rating"]
            self.missing[0] += int((users == _NO_ID).sum())
            self.missing[1] += int((items == _NO_ID).sum())
            outside = np.flatnonzero(~(np.isnan(ratings) | ((ratings >= 0) & (ratings <= 10))))
            if len(outside) and self.example is None:
                at = int(outside[0])
                self.example = (float(ratings[at]), int(users[at]), int(items[at]))
            self.outside += len(outside)
            if len(users):
                in_order &= last <= (int(users[0]), int(items[0])) and _rising(users, items)
                last = (int(users[-1]), int(items[-1]))
            with np.errstate(over="ignore"):  # of a rating that is outside, and refused below
                for name, values in block.items():
                    self._columns[name].append(values)
            if not (in_order or sorted_by_server) and self._columns["user_id"].in_file:
                raise _Outgrown
            read += len(users)
            progress(Progress("read interactions", read))

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Let go of files if the block fails."""
        try:
            yield
        except BaseException:
            for column in self._columns.values():
                column.close()
            raise

    def columns(self) -> _Columns:
        """The arrays, no longer held here."""
        return {name: self._columns.pop(name).array() for name in list(self._columns)}


def _check_ids(found: _Found, ids: tuple[Id, Id]) -> None:
    for id_, missing in zip(ids, found.missing, strict=True):
        if missing:
            raise errors.SourceError(
                f"{id_.column} is NULL in {missing:,} rows of the interactions query; "
                f"add: WHERE {id_.column} IS NOT NULL"
            )


def _check_ratings(connection: Connection, found: _Found, ids: tuple[Id, Id]) -> None:
    if found.example is None:
        return
    rating, *pair = found.example
    value = "NaN" if np.isneginf(rating) else f"{rating:g}"
    raise errors.SourceError(
        f"{found.outside:,} ratings of the interactions query are outside 0 to 10, such as {value} "
        f"({_example(connection, pair, ids)}); scale them in the query, or make them NULL"
    )


def _rising(users: NDArray[np.int64], items: NDArray[np.int64]) -> bool:
    """Whether pairs are in the order of user, then item."""
    for piece in arrays.pieces(len(users)):
        some = slice(piece.start, piece.stop + 1)
        before, after = users[some][:-1], users[some][1:]
        rising = (before < after) | ((before == after) & (items[some][:-1] <= items[some][1:]))
        if not rising.all():
            return False
    return True


def _sort(columns: _Columns) -> None:
    """By user, then item, which makes training reproducible; one column after the other, so that
    never two copies of all are held."""
    users, items = columns["user_id"], columns["item_id"]
    if _rising(users, items):
        return
    least_user, least_item = int(users.min()), int(items.min())
    width = int(items.max()) - least_item + 1
    if (int(users.max()) - least_user + 1) * width >= 2**63:
        order = np.lexsort((items, users))
        del users, items
        for name in list(columns):
            columns[name] = columns[name][order]
        return
    # Both ids in one number, which is sorted in a fraction of the time and of the memory.
    pairs = users
    pairs -= least_user
    pairs *= width
    for piece in arrays.pieces(len(pairs)):
        pairs[piece] += items[piece] - least_item
    del users, items, columns["item_id"]
    order = np.argsort(pairs)
    for name in columns.keys() - {"user_id"}:
        columns[name] = columns[name][order]
    del order
    pairs.sort()
    items = columns["item_id"] = np.empty_like(pairs)
    for piece in arrays.pieces(len(pairs)):
        np.divmod(pairs[piece], width, out=(pairs[piece], items[piece]))
    pairs += least_user
    items += least_item


def _check_pairs(connection: Connection, columns: _Columns, ids: tuple[Id, Id]) -> None:
    users, items = columns["user_id"], columns["item_id"]
    repeated, example = 0, -1
    for piece in arrays.pieces(len(users)):
        some = slice(piece.start, piece.stop + 1)
        places = np.flatnonzero((np.diff(users[some]) == 0) & (np.diff(items[some]) == 0))
        repeated += len(places)
        if len(places) and example < 0:
            example = piece.start + int(places[0])
    if repeated:
        pair = int(users[example]), int(items[example])
        when = ", max(rated_at) AS rated_at" if "rated_at" in columns else ""
        raise errors.SourceError(
            f"{repeated:,} rows of the interactions query repeat a user and item, such as "
            f"{_example(connection, pair, ids)}; make them one: "
            f"SELECT user_id, item_id, max(rating) AS rating{when} ... GROUP BY user_id, item_id"
        )


def _keep(columns: _Columns, item_ids: NDArray[np.int64]) -> int:
    """Leave only the rows with one of these items, and say how many they are."""
    kept = 0
    for piece in arrays.pieces(len(columns["item_id"])):
        known = np.flatnonzero(grouping.among(columns["item_id"][piece], item_ids))
        for values in columns.values():
            values[kept : kept + len(known)] = values[piece][known]
        kept += len(known)
    for name in columns:
        columns[name] = columns[name][:kept]
    return kept


def _example(connection: Connection, pair: Sequence[int], ids: tuple[Id, Id]) -> str:
    user, item = (id_.shown(connection, value) for id_, value in zip(ids, pair, strict=True))
    return f"user_id {user}, item_id {item}"
