"""The users or items query, read into columns by their kinds, and checked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from psycopg import sql

from tterec import errors
from tterec.database import vectors
from tterec.database.connection import Connection
from tterec.database.pgvector import extension_schema
from tterec.records import Column, FeatureTable, Kind, Progress, ProgressCallback, ignore
from tterec.store import digests
from tterec.store.copy_out import read_rows
from tterec.store.keys import Id
from tterec.store.kinds import QueryColumn

_HEADER_BYTES = 4  # of a vector on the wire: dimension and zero

# By kind: how a column is asked for, and by which of the driver's loaders it is read. A vector
# is taken as the bytes it is.
_ASKED: dict[Kind, tuple[str, str]] = {
    "number": ("{column}::float8", "float8"),
    "boolean": ("{column}::int::float8", "float8"),
    "date": ("(extract(epoch FROM {column}) / 86400)::float8", "float8"),
    "text": ("{column}::text", "text"),
    "text[]": ("{column}::text[]", "text[]"),
    "vector": ("{column}::{schema}.vector", "bytea"),
}


def read_features(
    connection: Connection,
    name: str,
    query: str,
    id_: Id,
    columns: Sequence[QueryColumn],
    *,
    progress: ProgressCallback = ignore,
    only: Sequence[int] | None = None,
) -> FeatureTable:
    """All rows of the `users` or `items` query, by id, with the given feature columns and digests.

    With `only`, those of these ids. The transaction must have called `digests.fix_texts`. Raises
    SourceError for rows without id, ids that come more than once, numbers that are
    infinite and vectors of different widths.
    """
    schema = extension_schema(connection).as_string(connection)
    asked, types = [f"{id_.value}::bigint", digests.DIGEST], ["int8", "bytea"]
    collectors: list[_Collector] = []
    for column in columns:
        assert column.kind is not None
        expression, type_ = _ASKED[column.kind]
        quoted = f"s.{sql.Identifier(column.name).as_string(connection)}"
        asked.append(expression.format(column=quoted, schema=schema))
        types.append(type_)
        collectors.append(_collector(column.kind, f"{name}.{column.name}"))
    wanted = id_.known if only is None else id_.among(only)
    statement = (
        f"SELECT {', '.join(asked)} FROM (\n{query}\n) s{id_.join} WHERE {wanted} ORDER BY 1"
    )
    digested: list[bytes] = []
    parts: list[NDArray[np.int64]] = []
    read = 0
    for block in read_rows(connection, statement, types):
        ids, of_rows, *values = zip(*block, strict=True)
        if ids[-1] is None:  # they come last
            raise errors.SourceError(
                f"{id_.column} is NULL in the {name} query; add: WHERE {id_.column} IS NOT NULL"
            )
        parts.append(np.array(ids, dtype=np.int64))
        digested.append(b"".join(of_rows))
        for collector, column_values in zip(collectors, values, strict=True):
            collector.add(column_values)
        read += len(block)
        progress(Progress(f"read {name}", read))
    found = np.concatenate(parts) if parts else np.empty(0, dtype=np.int64)
    repeated = np.flatnonzero(np.diff(found) == 0)
    if len(repeated):
        raise errors.SourceError(
            f"{len(repeated):,} rows of the {name} query repeat an id, such as {id_.column} "
            f"{id_.shown(connection, int(found[repeated[0]]))}; return one row for each: "
            f"SELECT DISTINCT ON ({id_.column}) ..."
        )
    return FeatureTable(
        found,
        tuple(
            Column(column.name, column.kind, collector.finished())
            for column, collector in zip(columns, collectors, strict=True)
            if column.kind is not None
        ),
        np.frombuffer(b"".join(digested), dtype=np.uint8).reshape(-1, 16),
    )


class _Collector(Protocol):
    """Gathers a column's values, block by block."""

    def add(self, values: Sequence[Any]) -> None: ...

    def finished(self) -> NDArray[Any]: ...


class _Numbers:
    """Numbers, dates and booleans: float64 (n,), NaN for NULL."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._parts: list[NDArray[np.float64]] = []

    def add(self, values: Sequence[float | None]) -> None:
        part = np.array(values, dtype=np.float64)  # None becomes NaN
        if np.isinf(part).any():
            raise errors.SourceError(
                f"{self._name} holds infinite values; make them NULL in the query"
            )
        self._parts.append(part)

    def finished(self) -> NDArray[np.float64]:
        return np.concatenate(self._parts) if self._parts else np.empty(0)


class _Objects:
    """Texts and lists of texts: object (n,), None for NULL. Equal texts are kept once."""

    def __init__(self) -> None:
        self._values: list[Any] = []
        self._known: dict[str, str] = {}

    def add(self, values: Sequence[Any]) -> None:
        self._values += [self._kept(value) for value in values]

    def _kept(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._known.setdefault(value, value)
        if isinstance(value, list):
            return [self._kept(part) for part in _flat(value) if part is not None]
        return value

    def finished(self) -> NDArray[np.object_]:
        array = np.empty(len(self._values), dtype=object)
        array[:] = self._values
        return array


def _flat(values: list[Any]) -> list[Any]:
    """The elements of an array of any number of dimensions."""
    if any(isinstance(value, list) for value in values):
        return [inner for value in values for inner in _flat(value)]
    return values


class _Vectors:
    """Vectors: float32 (n, width), rows of NaN for NULL."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._width: int | None = None
        self._parts: list[tuple[NDArray[np.bool_], NDArray[np.float32] | None]] = []

    def add(self, values: Sequence[bytes | None]) -> None:
        present = np.array([value is not None for value in values])
        found = [value for value in values if value is not None]
        if not found:
            self._parts.append((present, None))
            return
        widths = {(len(value) - _HEADER_BYTES) // 4 for value in found}
        if self._width is not None:
            widths.add(self._width)
        if len(widths) > 1:
            raise errors.SourceError(
                f"{self._name} holds vectors of different widths "
                f"({', '.join(map(str, sorted(widths)))}); return vectors of one width, or NULL"
            )
        self._width = widths.pop()
        self._parts.append((present, vectors.decode(found, self._width)))

    def finished(self) -> NDArray[np.float32]:
        count = sum(len(present) for present, _ in self._parts)
        array = np.full((count, self._width or 0), np.nan, dtype=np.float32)
        start = 0
        for present, matrix in self._parts:
            rows = array[start : start + len(present)]
            if matrix is not None:
                rows[present] = matrix
            start += len(present)
        return array


def _collector(kind: Kind, name: str) -> _Collector:
    if kind == "vector":
        return _Vectors(name)
    return _Objects() if kind in ("text", "text[]") else _Numbers(name)
