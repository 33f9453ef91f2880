"""Sparse vectors on the wire: rows of a generation's evidence table as bytes and back.

A `sparsevec` is its dimension, its number of entries and a zero as big-endian int32, then the
entries' positions from 0, int32, then their values, float32.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tterec.database.vectors import SIGNATURE, TRAILER, array_field

_HEAD = struct.Struct(">iii")
_ROWS_A_CHUNK = 4096


class Rows(NamedTuple):
    """Sparse vectors one after the other: those of row i from offsets[i]. offsets int64 (n + 1,),
    positions int64, values float32."""

    offsets: NDArray[np.int64]
    positions: NDArray[np.int64]
    values: NDArray[np.float32]


def to_copy(
    ids: NDArray[np.int64],
    rows: Rows,
    dim: int,
    lists: Sequence[Sequence[NDArray[np.int64]]],
) -> Iterator[bytes]:
    """The stream for `COPY table (id bigint, place int, weights sparsevec, list bigint[], …) FROM
    STDIN (FORMAT binary)`, in chunks.

    ids (n,); place counts the rows from 1; lists: for each column of lists, n of them.
    """
    yield SIGNATURE
    for first in range(0, len(ids), _ROWS_A_CHUNK):
        parts = []
        for row in range(first, min(first + _ROWS_A_CHUNK, len(ids))):
            part = slice(rows.offsets[row], rows.offsets[row + 1])
            positions = rows.positions[part].astype(">i4").tobytes()
            values = rows.values[part].astype(">f4").tobytes()
            parts += [
                struct.pack(">hiqii", 3 + len(lists), 8, ids[row], 4, row + 1),
                struct.pack(">i", _HEAD.size + len(positions) + len(values)),
                _HEAD.pack(dim, len(positions) // 4, 0),
                positions,
                values,
                *(array_field(column[row], ">i8") for column in lists),
            ]
        yield b"".join(parts)
    yield TRAILER


def decode(values: Sequence[Any]) -> Rows:
    """The sparse vectors that a query with `binary=True` returns, as bytes."""
    positions, entries = [], []
    lengths = np.zeros(len(values), dtype=np.int64)
    for row, value in enumerate(values):
        _, length, _ = _HEAD.unpack_from(value)
        lengths[row] = length
        positions.append(np.frombuffer(value, ">i4", length, _HEAD.size))
        entries.append(np.frombuffer(value, ">f4", length, _HEAD.size + 4 * length))
    return Rows(
        np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        np.concatenate([*positions, np.zeros(0)]).astype(np.int64),
        np.concatenate([*entries, np.zeros(0)]).astype(np.float32),
    )
