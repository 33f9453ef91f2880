"""The second index of a generation's item vectors, as pgvector builds and reads it."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from psycopg import errors as pg

from tests.integration.generations import plant, plant_books, random_vectors
from tterec import pipeline
from tterec.database import ivf
from tterec.database.connection import Connection, Database
from tterec.database.vectors import to_text
from tterec.store import pruning

BOOKS = 1200


def has_index(connection: Connection, generation: int = 1) -> bool:
    row = connection.execute("SELECT to_regclass(%s)", (f"tterec.{ivf.name(generation)}",))
    return row.fetchone() != (None,)


@pytest.mark.parametrize("dim", [4, 256])
def test_its_lists_can_be_built_in_the_memory_that_a_restore_has(
    database: Database, dim: int
) -> None:
    """Told what k-means takes by pgvector itself, which refuses before it begins."""
    lists = ivf.lists(10**9, dim)
    with database.connect() as connection:
        connection.execute(
            f"CREATE TEMPORARY TABLE drawn AS SELECT array_fill(random(), ARRAY[{dim}])"
            f"::vector({dim}) AS embedding FROM generate_series(1, {51 * lists})".encode()
        )
        connection.execute("SET maintenance_work_mem = '32MB'")
        with pytest.raises(pg.ProgramLimitExceeded) as refused:
            connection.execute(
                f"CREATE INDEX ON drawn USING ivfflat ((embedding::halfvec({dim}))"
                f" halfvec_ip_ops) WITH (lists = {lists})".encode()
            )
    needed = re.search(r"memory required is (\d+) MB", str(refused.value))
    assert needed is not None
    assert 58 <= int(needed[1]) <= 61


def test_only_a_generation_of_many_items_has_it(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.connect() as connection:
        books = plant_books(connection, BOOKS)
        plant(connection, random_vectors(books))
        monkeypatch.setattr(ivf, "LEAST_ROWS", BOOKS + 1)
        assert not ivf.create_missing(connection, 1)
        assert not has_index(connection)
        monkeypatch.setattr(ivf, "LEAST_ROWS", BOOKS)
        assert ivf.create_missing(connection, 1)
        assert has_index(connection)
        assert ivf.create_missing(connection, 1)
        assert not ivf.create_missing(connection, 2)  # whose tables are not there


@pytest.mark.parametrize("longest", [4095, 4097, 70000])
def test_vectors_that_half_precision_cannot_hold_have_none(
    database: Database, monkeypatch: pytest.MonkeyPatch, longest: int
) -> None:
    monkeypatch.setattr(ivf, "LEAST_ROWS", BOOKS)
    with database.connect() as connection:
        vectors = random_vectors(plant_books(connection, BOOKS))
        embeddings = np.zeros_like(vectors.item_embeddings)
        embeddings[:, 0] = np.linspace(1, longest, BOOKS)
        plant(connection, replace(vectors, item_embeddings=embeddings, normalised=False))
        assert has_index(connection) == (longest < 4096)


def test_items_that_are_all_alike_can_be_indexed(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing but zeros is what one constant feature may leave."""
    monkeypatch.setattr(ivf, "LEAST_ROWS", BOOKS)
    with database.connect() as connection:
        vectors = random_vectors(plant_books(connection, BOOKS))
        for generation, value in ((1, 0.25), (2, 0.0)):
            alike = np.full_like(vectors.item_embeddings, value)
            plant(connection, replace(vectors, item_embeddings=alike, normalised=False))
            assert has_index(connection, generation)
            row = connection.execute(
                f"SELECT ids FROM tterec.beyond_{generation}("
                "array_fill(1, ARRAY[%s])::vector, '{1,2,3}', 5)".encode(),
                (vectors.dim,),
            ).fetchone()
            assert row is not None
            assert len(row[0]) == 5
            assert not {1, 2, 3} & set(row[0])


def test_an_upgrade_builds_it_for_every_generation_and_a_prune_drops_it(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.connect() as connection:
        books = plant_books(connection, BOOKS)
        for seed in range(3):
            plant(connection, random_vectors(books, seed=seed))
        connection.commit()
        monkeypatch.setattr(ivf, "LEAST_ROWS", BOOKS)
        pipeline.upgrade(database)
        assert [has_index(connection, generation) for generation in (1, 2, 3)] == [True] * 3
    with database.connect(autocommit=True) as connection:
        pruning.prune(connection)
        assert [has_index(connection, generation) for generation in (1, 2, 3)] == [
            False,
            True,
            True,
        ]


def test_its_search_is_never_compiled(database: Database) -> None:
    """Before Postgres 18 a sort that is turned off has a cost of 10^10, which calls for JIT."""
    with database.connect() as connection:
        plant(connection, random_vectors(plant_books(connection, 20)))
        row = connection.execute("SELECT proconfig FROM pg_proc WHERE proname = 'beyond_1'")
        ((settings,),) = row.fetchall()
    assert {"enable_sort=off", "jit=off"} <= set(settings)


@pytest.mark.parametrize("length", [2e-7, 1e9])
def test_a_vector_of_any_length_finds_the_same(
    database: Database, monkeypatch: pytest.MonkeyPatch, length: float
) -> None:
    """Half precision holds 6e-8 to 65,504; a user's vector may be as long as it will."""
    monkeypatch.setattr(ivf, "LEAST_ROWS", BOOKS)
    monkeypatch.setattr(ivf, "probes", lambda _rows, _dim: 1000)
    with database.connect() as connection:
        plant(connection, random_vectors(plant_books(connection, BOOKS), normalised=False))
        assert has_index(connection)
        one = np.random.default_rng(3).normal(size=16)
        found = [
            connection.execute(
                "SELECT ids FROM tterec.beyond_1(%s::text::vector, '{1,2,3}', 50)",
                (to_text((times * one).astype(np.float32)),),
            ).fetchone()
            for times in (1.0, length)
        ]
    assert found[0] == found[1]
