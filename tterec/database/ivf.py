"""The second index of a generation's item vectors, for those who have met most of what is near by.

HNSW finds the nearest; behind thousands that are excluded it has to go on and on. IVFFlat reads
whole lists of items that are near to each other, and passes over the excluded at little cost: of
270,000 x 64, with 12,860 excluded, it found .83 of the nearest 200 of the others in 3.4 ms, HNSW
.27 in 3.6; with 2,000 excluded .96 in 3.4, HNSW .55 in 2.3. In half precision it has half the size,
and the planner cannot mistake it for the other.
"""

from __future__ import annotations

import math

from psycopg import errors as pg
from psycopg import sql

from tterec.database import memory
from tterec.database.connection import Connection
from tterec.database.pgvector import extension_schema

LEAST_ROWS = 10_000
"""Fewer are scored all, exactly, in a millisecond or two."""

# k-means must fit the default of maintenance_work_mem, 64 MB: pgvector refuses to build otherwise,
# and whoever restores a dump has no more.
_BUILD_BYTES = 60 << 20
_SAMPLES_A_LIST = 50
# Half precision ends at 65,504; what is embedded later may be longer.
_LONGEST = 2.0**12
# What a search reads, in some 4 ms at 64 dimensions. On Book-Crossing (112,000 items) it gave users
# of 800 to 1,600 interactions .96 of the exact first ten of the second stage; 16,000 gave the same.
_ROWS_A_SEARCH = 12_000
_LEAST_PROBES, _MOST_PROBES = 8, 200


def name(generation: int) -> str:
    """The index's name, without its schema."""
    return f"item_vectors_{generation}_ivf_idx"


def lists(rows: int, dim: int) -> int:
    """How many lists: 0.6 times the root of the rows, or what can be built in 64 MB, if less.

    The time to build grows with their square: of 112,000 x 64 236 lists took 1.1 seconds and 473
    took 4.3 (HNSW: 13), and what users of hundreds of interactions got was no better.
    """
    item = 8 * math.ceil((2 * dim + 8) / 8)
    # The bytes of pgvector 0.8.5's k-means, 50 samples a list: a * lists^2 + b * lists.
    a, b = 4 * (_SAMPLES_A_LIST + 1), (_SAMPLES_A_LIST + 2) * item + 8 * _SAMPLES_A_LIST + 12
    most = (math.sqrt(b * b + 4 * a * _BUILD_BYTES) - b) / (2 * a)
    return max(1, int(min(0.6 * math.sqrt(rows), most)))


def probes(rows: int, dim: int) -> int:
    """How many lists a search reads at first; more where these hold too few."""
    found = math.ceil(_ROWS_A_SEARCH * lists(rows, dim) / max(rows, 1))
    return min(max(found, _LEAST_PROBES), _MOST_PROBES)


def worth_building(connection: Connection, generation: int) -> tuple[int, int] | None:
    """How many vectors of how many dimensions it would be of; None of few items, and of vectors too
    long for half precision, whose searches score all."""
    row = connection.execute(
        sql.SQL(
            "SELECT count(*), coalesce(max({schema}.vector_norm(embedding)), 0),"
            " max({schema}.vector_dims(embedding)) FROM {table}"
        ).format(schema=extension_schema(connection), table=_table(generation))
    ).fetchone()
    assert row is not None
    rows, longest, dim = row
    return (rows, dim) if rows >= LEAST_ROWS and longest < _LONGEST else None


def create_missing(connection: Connection, generation: int) -> bool:
    """Build it where there is none, and say whether it is there; in the caller's transaction.

    Only where it is worth building.
    """
    row = connection.execute(
        "SELECT to_regclass(%s) IS NOT NULL, to_regclass(%s) IS NOT NULL",
        (f"tterec.item_vectors_{generation}", f"tterec.{name(generation)}"),
    ).fetchone()
    assert row is not None
    if row != (True, False):
        return row == (True, True)
    found = worth_building(connection, generation)
    if found is None:
        return False
    rows, dim = found
    memory.raise_maintenance_work_mem(connection, _BUILD_BYTES)
    statement = sql.SQL(
        "CREATE INDEX {name} ON {table} USING ivfflat"
        " ((embedding::{schema}.halfvec({dim})) {schema}.halfvec_ip_ops) WITH (lists = {lists})"
    ).format(
        name=sql.Identifier(name(generation)),
        table=_table(generation),
        schema=extension_schema(connection),
        dim=sql.Literal(dim),
        lists=sql.Literal(lists(rows, dim)),
    )
    try:
        with connection.transaction():
            connection.execute(statement)
    except (pg.ProgramLimitExceeded, pg.NumericValueOutOfRange):  # pragma: no cover
        return False
    return True


def _table(generation: int) -> sql.Identifier:
    return sql.Identifier("tterec", f"item_vectors_{generation}")
