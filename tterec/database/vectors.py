"""Vectors on the wire: the one place where pgvector's bytes become NumPy arrays and back.

A vector that is sent is converted by pgvector-python. What comes is not: a vector, and a row of a
generation's tables, `(bigint, vector)`, has the same length whatever it holds, so that the bytes of
many are a NumPy record array and are converted in one step, not one at a time. A vector is its
dimension and a zero as big-endian int16, then big-endian float32s.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pgvector import Vector

SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)  # no flags, no header extension
TRAILER = b"\xff\xff"
_HEADER_BYTES = 4  # of one vector: dimension and zero
_ROWS_A_CHUNK = 16_384
_ELEMENT_OIDS = {">i8": 20, ">f4": 700}


def _record(dim: int) -> np.dtype[np.void]:
    """One row (bigint, vector(dim)) of a binary COPY."""
    return np.dtype(
        [
            ("fields", ">i2"),
            ("id_bytes", ">i4"),
            ("id", ">i8"),
            ("vector_bytes", ">i4"),
            *_vector(dim).descr,
        ]
    )


def _vector(dim: int) -> np.dtype[np.void]:
    """One vector(dim)."""
    return np.dtype([("dim", ">i2"), ("zero", ">i2"), ("vector", ">f4", (dim,))])


def to_copy(ids: NDArray[np.int64], matrix: NDArray[np.float32]) -> Iterator[bytes]:
    """The stream for `COPY table (id, vector) FROM STDIN (FORMAT binary)`, in chunks.

    ids (n,), matrix (n, d). Write each chunk with `copy.write(chunk)`; no types need setting.
    """
    dim = matrix.shape[1]
    yield SIGNATURE
    for start in range(0, len(ids), _ROWS_A_CHUNK):
        part = slice(start, start + _ROWS_A_CHUNK)
        rows = np.empty(len(ids[part]), dtype=_record(dim))
        rows["fields"], rows["id_bytes"], rows["id"] = 2, 8, ids[part]
        rows["vector_bytes"], rows["dim"], rows["zero"] = _HEADER_BYTES + 4 * dim, dim, 0
        rows["vector"] = matrix[part]
        yield rows.tobytes()
    yield TRAILER


def texts_to_copy(keys: Iterable[tuple[str, str]], matrix: NDArray[np.float32]) -> Iterator[bytes]:
    """The stream for `COPY table (text, text, vector) FROM STDIN (FORMAT binary)`, in chunks.

    keys (n,), matrix (n, d).
    """
    dim = matrix.shape[1]
    header = struct.pack(">ihh", _HEADER_BYTES + 4 * dim, dim, 0)
    yield SIGNATURE
    rows: list[bytes] = []
    for texts, vector in zip(keys, matrix.astype(">f4"), strict=True):
        first, second = (text.encode() for text in texts)
        rows.append(
            struct.pack(
                f">hi{len(first)}si{len(second)}s", 3, len(first), first, len(second), second
            )
        )
        rows += (header, vector.tobytes())
        if len(rows) >= _ROWS_A_CHUNK:
            yield b"".join(rows)
            rows.clear()
    yield b"".join(rows) + TRAILER


def array(values: NDArray[np.integer] | NDArray[np.floating], kind: str) -> bytes:
    """An array of values (n,) in binary: `>i8` bigint[], `>f4` real[].

    It is the number of dimensions, a zero, the element type, the length and the first index as
    big-endian int32, then each element with its length before it.
    """
    elements = np.empty(len(values), dtype=[("bytes", ">i4"), ("value", kind)])
    elements["bytes"], elements["value"] = elements.dtype["value"].itemsize, values
    found = struct.pack(">iii", int(len(values) > 0), 0, _ELEMENT_OIDS[kind])
    if len(values):
        found += struct.pack(">ii", len(values), 1) + elements.tobytes()
    return found


def array_field(values: NDArray[np.integer] | NDArray[np.floating], kind: str) -> bytes:
    """A field of a binary COPY that holds an array: its length, big-endian int32, then itself."""
    found = array(values, kind)
    return struct.pack(">i", len(found)) + found


def from_copy(
    chunks: Iterable[bytes | bytearray | memoryview], dim: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Ids (n,) and vectors (n, dim) of `COPY (SELECT id, vector …) TO STDOUT (FORMAT binary)`.

    No id and no vector may be NULL. Raises ValueError where the stream is something else.
    """
    stream = bytearray()
    for chunk in chunks:
        stream += chunk
    record = _record(dim)
    size = len(stream) - len(SIGNATURE) - len(TRAILER)
    if size % record.itemsize or not stream.startswith(SIGNATURE):
        raise ValueError(f"not a binary COPY of (bigint, vector({dim}))")
    rows = np.frombuffer(stream, dtype=record, count=size // record.itemsize, offset=len(SIGNATURE))
    if not (rows["dim"] == dim).all():
        raise ValueError(f"vectors of other than {dim} dimensions")
    return rows["id"].astype(np.int64), rows["vector"].astype(np.float32)


def decode(values: Sequence[Any], dim: int) -> NDArray[np.float32]:
    """Vectors (n, dim) of the bytes that a query with `binary=True` returns for a vector column."""
    rows = np.frombuffer(b"".join(values), dtype=_vector(dim))
    if len(rows) != len(values) or not (rows["dim"] == dim).all():
        raise ValueError(f"vectors of other than {dim} dimensions")
    return rows["vector"].astype(np.float32)


def to_text(vector: NDArray[np.floating]) -> str:
    """A vector (d,), rounded to float32, as the parameter of a query: write `%s::vector`."""
    return str(Vector(vector).to_text())
