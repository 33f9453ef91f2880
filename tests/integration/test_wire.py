"""Arrays and vectors on their way to Postgres and back."""

from __future__ import annotations

import numpy as np
import pytest

from tterec.database import vectors
from tterec.database.connection import Database

LONGEST = 2**63 - 1


@pytest.mark.parametrize("ids", [[], [7], [3, -LONGEST - 1, LONGEST, 0], range(20_000)])
@pytest.mark.parametrize("step", [1, 2])
def test_an_array_of_ids_arrives_as_it_is(
    database: Database, ids: list[int] | range, step: int
) -> None:
    sent = np.array(ids, dtype=np.int64)[::step]
    with database.connect() as connection:
        for binary in (True, False):
            row = connection.execute(
                "SELECT %s::bigint[], pg_typeof(%s)::text", (sent, sent), binary=binary
            ).fetchone()
            assert row == (sent.tolist(), "bigint[]")


@pytest.mark.parametrize(
    "wrong", [np.zeros(2), np.zeros(2, np.int32), np.zeros((1, 2), np.int64), np.array(1)]
)
def test_an_array_of_anything_else_is_refused(database: Database, wrong: object) -> None:
    with database.connect() as connection, pytest.raises(TypeError, match="not of ids"):
        connection.execute("SELECT %s::bigint[]", (wrong,))


def test_vectors_come_as_they_are(database: Database) -> None:
    matrix = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
    with database.connect() as connection:
        for rows in (matrix, matrix[:1], matrix[:0]):
            sent = [vectors.to_text(vector) for vector in rows]
            found = connection.execute(
                "SELECT v::vector FROM unnest(%s::text[]) v", (sent,), binary=True
            ).fetchall()
            decoded = vectors.decode([value for (value,) in found], 7)
            assert decoded.dtype == np.float32
            assert (decoded == rows).all()
            assert decoded.shape == rows.shape
        row = connection.execute("SELECT '[1,2,3]'::vector", binary=True).fetchone()
    assert row is not None
    for dim in (1, 2, 4, 7):
        with pytest.raises(ValueError, match=r"dimensions|buffer size"):
            vectors.decode(row, dim)
