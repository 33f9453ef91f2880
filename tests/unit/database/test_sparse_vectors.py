"""Sparse vectors as bytes. That Postgres reads them, tests/integration/test_surfaces.py shows."""

import struct

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tterec.database import sparse_vectors
from tterec.database.sparse_vectors import Rows

ENTRIES = st.dictionaries(
    st.integers(0, 999), st.floats(-2, 2, width=32, allow_nan=False), max_size=8
)


def rows_of(given: list[dict[int, float]]) -> Rows:
    entries = [sorted(one.items()) for one in given]
    return Rows(
        np.cumsum([0, *map(len, entries)]),
        np.array([place for one in entries for place, _ in one], dtype=np.int64),
        np.array([value for one in entries for _, value in one], dtype=np.float32),
    )


def test_one_row_by_hand() -> None:
    rows = rows_of([{2: 0.5}])
    stream = b"".join(
        sparse_vectors.to_copy(np.array([7]), rows, 4, ([np.array([9])], [np.array([])]))
    )
    sparse = struct.pack(">iii", 4, 1, 0) + struct.pack(">i", 2) + struct.pack(">f", 0.5)
    array = struct.pack(">iiiii", 1, 0, 20, 1, 1) + struct.pack(">iq", 8, 9)
    row = struct.pack(">hiqii", 5, 8, 7, 4, 1)
    row += struct.pack(">i", len(sparse)) + sparse + struct.pack(">i", len(array)) + array
    row += struct.pack(">iiii", 12, 0, 0, 20)
    assert stream == b"PGCOPY\n\xff\r\n\0" + bytes(8) + row + b"\xff\xff"


@given(st.lists(ENTRIES, max_size=5))
def test_what_is_decoded_is_what_was_there(given: list[dict[int, float]]) -> None:
    rows = rows_of(given)
    values = []
    for number in range(len(given)):
        part = slice(rows.offsets[number], rows.offsets[number + 1])
        positions = rows.positions[part].astype(">i4").tobytes()
        head = struct.pack(">iii", 1000, len(positions) // 4, 0)
        values.append(head + positions + rows.values[part].astype(">f4").tobytes())
    found = sparse_vectors.decode(values)
    for wanted, array in zip(rows, found, strict=True):
        np.testing.assert_array_equal(wanted, array)
        assert array.dtype == wanted.dtype
