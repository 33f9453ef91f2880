"""Queries read by binary COPY, a block of rows at a time: never all bytes and all arrays at once.

The format: https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tterec.database.connection import Connection
from tterec.database.vectors import SIGNATURE, TRAILER

# Blocks of some 4 MB: larger ones are no faster, and this is what is held twice.
_BLOCK_BYTES = 4 << 20
_BLOCK_ROWS = 8192


def read_fixed(
    connection: Connection, query: str, columns: dict[str, str]
) -> Iterator[dict[str, NDArray[Any]]]:
    """Blocks of a query's rows, as an array for each column, in native byte order.

    `columns` names the query's columns, in order, with NumPy types of their binary format
    (`i8` bigint, `f8` double precision). None may be NULL: NULL has no width.
    """
    named = list(columns.items())
    wire = [("fields", ">i2")]
    for name, kind in named:
        wire += [(f"{name} bytes", ">i4"), (name, f">{kind}")]
    layout = np.dtype(wire)
    size = max(1, _BLOCK_BYTES // layout.itemsize)
    with connection.cursor() as cursor, cursor.copy(_copy_out(query)) as copy:
        for chunk in _joined(copy, size):
            count, rest = divmod(len(chunk), layout.itemsize)
            wired = np.frombuffer(chunk, dtype=layout, count=count)
            sizes = [wired[f"{name} bytes"] == np.dtype(kind).itemsize for name, kind in named]
            if rest not in (0, len(TRAILER)) or not np.all(sizes):
                raise ValueError("a row of the binary COPY stream is not of the width asked for")
            yield {name: wired[name].astype(kind) for name, kind in named}


def read_rows(
    connection: Connection, query: str, types: list[str]
) -> Iterator[list[tuple[Any, ...]]]:
    """Blocks of a query's rows as tuples, by the driver's binary loaders for `types`."""
    with connection.cursor() as cursor, cursor.copy(_copy_out(query)) as copy:
        copy.set_types(types)
        block: list[tuple[Any, ...]] = []
        for row in copy.rows():
            block.append(row)
            if len(block) == _BLOCK_ROWS:
                yield block
                block = []
        if block:
            yield block


def _copy_out(query: str) -> bytes:
    return f"COPY ({query}) TO STDOUT (FORMAT binary)".encode()


def _joined(copy: Any, rows: int) -> Iterator[bytes]:
    """The stream without its header, in blocks of about `rows` rows: Postgres sends them singly."""
    parts: list[bytes] = []
    first = True
    for part in copy:
        parts.append(bytes(part)[len(SIGNATURE) :] if first else bytes(part))
        first = False
        if len(parts) >= rows:
            yield b"".join(parts)
            parts = []
    if parts:
        yield b"".join(parts)
