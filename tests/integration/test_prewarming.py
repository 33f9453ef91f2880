"""The first callers of a generation find it in the server's cache."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest

from tests.integration.generations import (
    plant,
    plant_books,
    plant_ratings,
    random_ranker,
    random_vectors,
)
from tterec import pipeline
from tterec.config import TrainingConfig
from tterec.database import ivf, system_user
from tterec.database.cluster import Cluster
from tterec.database.connection import Database
from tterec.store import generations, prewarming

BOOKS = 8000
USERS = range(1, 11)
HEAVY = 10


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A server whose cache is emptied by a restart, with a live generation and a ready one."""
    home = Path(tempfile.mkdtemp(prefix="tterec-test-"))
    system_user.open_home(home)
    cluster = Cluster(home)
    cluster.create()
    with (cluster.directory / "postgresql.conf").open("a", encoding="utf-8") as file:
        file.write("fsync = off\nautovacuum = off\n")  # nobody else reads
    try:
        database = Database(cluster.start().url())
        with psycopg.connect(cluster.address.url("postgres"), autocommit=True) as connection:
            connection.execute("CREATE DATABASE tterec")
        pipeline.upgrade(database)
        with database.connect() as connection:
            books, rng = plant_books(connection, BOOKS), np.random.default_rng(1)
            for user in USERS:
                length = 1000 if user == HEAVY else 20
                read = rng.choice(books, length, replace=False).tolist()
                plant_ratings(connection, user, read, rng.integers(0, 11, length).tolist())
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(ivf, "LEAST_ROWS", BOOKS)
                for seed in (1, 2):
                    plant(
                        connection,
                        random_vectors(books, [*USERS], dim=64, seed=seed),
                        ranker=random_ranker(books),
                    )
            generations.rollback(connection)
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(home, ignore_errors=True)


def restarted(cluster: Cluster) -> Database:
    """The database of a server that has just been started; its first generation has been asked."""
    cluster.stop()
    database = Database(cluster.start().url())
    with database.connect() as connection:
        for user in USERS:
            connection.execute("SELECT * FROM tterec.recommend(%s)", (user,)).fetchall()
    return database


def blocks_read(database: Database) -> list[int]:
    """Blocks that lists needed from outside the cache, of users in turn, each in a new session."""
    found = []
    for user in USERS:
        with database.connect() as connection:
            row = connection.execute(
                "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT * FROM tterec.recommend(%s)",
                (user,),
            ).fetchone()
            assert row is not None
            ((explained,),) = [row[0]] if isinstance(row[0], list) else [json.loads(row[0])]
            found.append(_read(explained["Plan"]) + _read(explained.get("Planning", {})))
    return found


def _read(part: dict[str, Any]) -> int:
    return int(part.get("Shared Read Blocks", 0))


def test_the_first_lists_after_a_promotion_read_nothing(cluster: Cluster) -> None:
    database = restarted(cluster)
    pipeline.models_promote(database, 2)
    first = blocks_read(database)
    pipeline.models_rollback(database)
    assert max(first) <= 5
    assert sum(first) <= 10


def test_the_first_lists_after_a_rollback_read_nothing(cluster: Cluster) -> None:
    database = restarted(cluster)
    pipeline.models_rollback(database)
    first = blocks_read(database)
    pipeline.models_rollback(database)
    assert max(first) <= 5
    assert sum(first) <= 10


def test_without_it_they_read_from_disk(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prewarming, "prewarm", lambda *_: None)
    database = restarted(cluster)
    pipeline.models_promote(database, 2)
    first = blocks_read(database)
    pipeline.models_rollback(database)
    assert first[0] > 500


def test_what_is_larger_than_the_cache_is_left(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reading on would push out what was read first."""
    monkeypatch.setattr(prewarming, "_cache_bytes", lambda _: 1 << 20)
    database = restarted(cluster)
    pipeline.models_promote(database, 2)
    first = blocks_read(database)
    pipeline.models_rollback(database)
    assert first[0] > 500


def test_a_promotion_does_not_fail_for_it(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prewarming, "_TIMEOUT", "1ms")
    database = Database(cluster.address.url())
    pipeline.models_promote(database, 2)
    pipeline.models_rollback(database)
    with database.connect(autocommit=True) as connection:
        config = TrainingConfig(dim=8)
        generation = generations.begin(connection, config)  # with no tables at all
        prewarming.prewarm(database, generation)
        generations.fail(connection, generation)
