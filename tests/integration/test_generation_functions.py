"""The functions of a generation's own come and go with it."""

from __future__ import annotations

import numpy as np
import pytest

from tests.integration.generations import plant, plant_books, plant_ratings, random_vectors
from tests.integration.test_surfaces import by_sql
from tterec import pipeline
from tterec.config import TrainingConfig
from tterec.database import generation_functions, schema
from tterec.database.connection import Connection, Database
from tterec.store import generations

NAMES = ["beyond", "heard", "leads", "met", "near", "scored"]


def there(connection: Connection) -> list[str]:
    """The functions whose names end with a number."""
    rows = connection.execute(
        "SELECT proname FROM pg_proc WHERE pronamespace = 'tterec'::regnamespace"
        " AND proname ~ '_[0-9]+$' ORDER BY proname"
    ).fetchall()
    return [str(row[0]) for row in rows]


def named(*numbers: int) -> list[str]:
    return sorted(f"{name}_{number}" for name in NAMES for number in numbers)


def plant_reader(connection: Connection) -> np.ndarray:
    books = plant_books(connection, 60)
    plant_ratings(connection, 1, [4, 5], [9.0, None])
    return books


def test_they_are_pruned_with_the_generation(database: Database) -> None:
    with database.connect(autocommit=True) as connection:
        books = plant_reader(connection)
        for seed in range(3):
            plant(connection, random_vectors(books, seed=seed))
        assert there(connection) == named(1, 2, 3)
    pipeline.models_prune(database)
    with database.connect(autocommit=True) as connection:
        assert there(connection) == named(2, 3)
        assert len(by_sql(connection, "recommend(1)")) == 10
    pipeline.models_rollback(database)
    with database.connect(autocommit=True) as connection:
        assert len(by_sql(connection, "recommend(1)")) == 10


def test_a_failed_generation_leaves_none(database: Database) -> None:
    with database.connect(autocommit=True) as connection:
        books = plant_reader(connection)
        generation = generations.begin(connection, TrainingConfig(dim=16))
        generations.publish_vectors(connection, generation, random_vectors(books))
        assert there(connection) == named(1)
        assert generations.fail(connection, generation)
        assert there(connection) == []


@pytest.mark.parametrize("lost", [["near_1"], named(1)])
def test_an_upgrade_brings_back_what_the_live_one_lacks(
    database: Database, lost: list[str]
) -> None:
    with database.connect(autocommit=True) as connection:
        plant(connection, random_vectors(plant_reader(connection)))
        before = by_sql(connection, "recommend(1)")
        for name in lost:
            connection.execute(f"DROP FUNCTION tterec.{name}".encode())
    assert [one for one in schema.differences(database) if "function" in one] == [
        f"missing function: tterec.{name}" for name in lost
    ]
    pipeline.upgrade(database)
    assert schema.differences(database) == []
    with database.connect() as connection:
        assert by_sql(connection, "recommend(1)") == before


def test_one_that_was_published_before_there_were_any_gets_them_with_its_promotion(
    database: Database,
) -> None:
    with database.connect(autocommit=True) as connection:
        books = plant_reader(connection)
        plant(connection, random_vectors(books))
        plant(connection, random_vectors(books, seed=1))
        generation_functions.drop(connection, 1)
    pipeline.models_promote(database, 1)
    with database.connect() as connection:
        assert there(connection) == named(1, 2)
        assert len(by_sql(connection, "recommend(1)")) == 10


def test_an_upgrade_replaces_those_of_every_generation(database: Database) -> None:
    with database.connect(autocommit=True) as connection:
        books = plant_reader(connection)
        for seed in range(2):
            plant(connection, random_vectors(books, seed=seed))
        for number in (1, 2):
            connection.execute(
                f"CREATE OR REPLACE FUNCTION tterec.leads_{number}(own bigint[], near bigint[],"
                " excluded bigint[]) RETURNS bigint[] LANGUAGE sql"
                " AS $$ SELECT '{}'::bigint[] $$".encode()
            )
    pipeline.upgrade(database)
    with database.connect() as connection:
        rows = connection.execute(
            "SELECT prosrc LIKE '%item_evidence_%' FROM pg_proc WHERE proname ~ '^leads_[12]$'"
        ).fetchall()
    assert rows == [(True,), (True,)]
