"""Databases of the past: of another major version of Postgres, and of every earlier migration."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import numpy as np
import psycopg
import pytest
from alembic import command
from alembic.script import ScriptDirectory

from tests.integration.generations import random_ranker, random_vectors
from tests.integration.test_surfaces import assert_same, by_sql, plant_shop
from tests.integration.test_train import CONFIG, SHOP
from tterec import Recommender, fine_tuning, pipeline, updating
from tterec.database import pgvector, programs, roles, schema, system_user
from tterec.database.cluster import Cluster
from tterec.database.connection import Connection, Database
from tterec.store import evidence_table, generations, vector_tables

CALLS = (
    "recommend(4)",
    "recommend('4')",
    "recommend(9)",
    "recommend(1000000)",
    "recommend(4, 5, min_year => 1980, author => 'author 3')",
    "recommend_for_books(ARRAY['0000000004'], ARRAY[9]::real[])",
    "similar_books('0000000004', 20)",
    "popular_books(20)",
)
REVISIONS = sorted(
    script.revision
    for script in ScriptDirectory.from_config(schema._alembic_config()).walk_revisions()
)


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Cluster, Cluster]]:
    """A server of the oldest major version that there is here, and one of the newest; empty."""
    found = []
    with ExitStack() as stack:
        for version in (min(programs.versions()), max(programs.versions())):
            home = Path(tempfile.mkdtemp(prefix="tterec-test-"))
            stack.callback(shutil.rmtree, home, ignore_errors=True)
            system_user.open_home(home)
            with monkeypatch.context() as patch:
                patch.setattr(programs, "wanted_version", lambda version=version: version)
                cluster = Cluster(home)
                cluster.create()
                with (cluster.directory / "postgresql.conf").open("a", encoding="utf-8") as file:
                    file.write("fsync = off\n")
                cluster.start()
                stack.callback(cluster.stop)
            found.append(cluster)
        yield found[0], found[1]


def lists(database: Database) -> list[object]:
    """Every kind of list, by SQL as the readers' role, and by Python."""
    found: list[object] = []
    with database.connect() as connection, Recommender(database) as recommender:
        connection.execute(f"SET ROLE {roles.READER}".encode())
        found += [by_sql(connection, call) for call in CALLS]
        for query in ("score(4, '0000000004')", "user_vector(4)::text"):
            found += connection.execute(f"SELECT tterec.{query}".encode()).fetchall()
        for user in (4, 9, 1_000_000):
            found.append(recommender.recommend(user))
        found.append(dict(recommender.recommend_many([1, 2, 3], 20)))
        found.append(recommender.explain(4, "0000000004"))
    return found


def test_a_dump_restored_into_another_major_version_recommends_the_same(
    servers: tuple[Cluster, Cluster],
) -> None:
    old, new = servers
    assert (old.version, new.version) == (16, 18)
    for cluster in servers:
        with psycopg.connect(cluster.address.url("postgres"), autocommit=True) as connection:
            connection.execute("CREATE DATABASE shop")
    database = Database(old.address.url("shop"))
    pipeline.upgrade(database)
    plant_shop(database, normalised=True, users=20, ranker=True)
    with database.connect() as connection:
        connection.execute(
            "UPDATE tterec.books SET year = 1950 + book_id % 70, author = 'Author ' || book_id % 10"
        )
    before = lists(database)
    dump = old.directory / "shop.dump"
    said = programs.run(
        new.program("pg_dump"),
        *("--format=custom", f"--file={dump}", database.url),
        directory=old.directory,
    )
    assert said is None, said
    restored = Database(new.address.url("shop"))
    with psycopg.connect(new.address.url("postgres"), autocommit=True) as connection:
        connection.execute(f"{roles.CREATE_READER}".encode())  # first, as the README says
    said = programs.run(
        new.program("pg_restore"),
        *("--exit-on-error", f"--dbname={restored.url}", str(dump)),
        directory=old.directory,
    )
    assert said is None, said
    assert lists(restored) == before
    pipeline.upgrade(restored)
    assert lists(restored) == before
    assert schema.differences(restored) == []


def migrate(database: Database, revision: str) -> None:
    """What `tterec db upgrade` of the version with that migration made of an empty database."""
    with database.engine() as engine, engine.begin() as outer:
        connection: Connection = outer.connection.driver_connection  # type: ignore[assignment]
        pgvector.ensure_extension(connection)
        schema.create(connection, "tterec")
        command.upgrade(schema._alembic_config(outer), revision)


def plant_live(connection: Connection, revision: str) -> None:
    """A live generation of the books and users that there are, as that version kept it."""
    books = np.arange(1, 61)
    vectors = random_vectors(books, range(1, 91), dim=8)
    row = connection.execute(
        "INSERT INTO tterec.models (status, objective, dim, normalised, max_history,"
        " history_weights, default_profile, ef_search, seed, config, sources, finished_at)"
        " VALUES ('ready', 'softmax', 8, true, 200, %s, %s, 100, 0, %s, %s, now())"
        " RETURNING generation",
        (
            vectors.history_weights.tolist(),
            vectors.default_profile.tolist(),
            json.dumps({"objective": "softmax", "dim": 8, "epochs": 2, "an old setting": 1}),
            json.dumps({"origin": "default"}),
        ),
    ).fetchone()
    assert row == (1,)
    vector_tables.create(connection, 1, vectors)
    connection.execute(
        "INSERT INTO tterec.item_popularity (generation, item_id, interactions, ratings, score)"
        " SELECT 1, book_id, 5, 5, book_id / 10.0 FROM tterec.books"
    )
    if revision >= "0002":
        ranker = random_ranker(books, candidates=30)
        evidence_table.create(connection, 1, ranker)
        connection.execute(
            "UPDATE tterec.models SET ranker = %s", (json.dumps(generations._ranking(ranker)),)
        )
        if revision < "0004":
            connection.execute("ALTER TABLE tterec.item_evidence_1 ALTER COLUMN place SET NOT NULL")
    connection.execute("INSERT INTO tterec.active_model (generation) VALUES (1)")
    # A function that the first version had with other arguments.
    connection.execute(
        "CREATE FUNCTION tterec.popular_books(k int DEFAULT 10) RETURNS TABLE (rank int)"
        " LANGUAGE sql AS 'SELECT 1'"
    )


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_database_of_each_earlier_migration_goes_on_with_its_data(
    empty_database: Database, revision: str
) -> None:
    database = empty_database
    migrate(database, revision)
    with database.connect() as connection:
        assert schema.current(connection) == revision
        connection.execute(SHOP)
        plant_live(connection, revision)
    pipeline.upgrade(database)
    assert schema.differences(database) == []
    with database.connect() as connection, Recommender(database) as recommender:
        row = connection.execute(
            "SELECT (SELECT count(*) FROM tterec.books), (SELECT count(*) FROM tterec.users),"
            " (SELECT count(*) FROM tterec.ratings), (SELECT count(*) FROM tterec.item_vectors_1)"
        ).fetchone()
        assert row == (60, 90, 360, 60)
        connection.execute(f"SET ROLE {roles.READER}".encode())
        for call, python in (
            ("recommend(4)", recommender.recommend(4)),
            ("recommend(1000000)", recommender.recommend(1_000_000)),
            ("similar_books('0000000004')", recommender.similar("0000000004")),
            ("popular_books(10)", recommender.popular()),
        ):
            found = by_sql(connection, call)
            assert len(found) == 10
            assert_same(found, [asdict(one) for one in python])
        assert by_sql(connection, "recommend(4)")[0]["source"] == "history"
    trained = pipeline.train(database, CONFIG)
    assert (trained.generation, trained.active) == (2, True)
    with database.connect() as connection:
        connection.execute(
            "INSERT INTO tterec.books (book_id, isbn, title) VALUES (61, 'new', 'A new book')"
        )
    assert updating.update(database).items.new == 1
    assert fine_tuning.fine_tune(database, epochs=1) is not None
    assert pipeline.models_rollback(database) in (1, 2)
    with database.connect() as connection:
        assert len(by_sql(connection, "recommend(4)")) == 10
