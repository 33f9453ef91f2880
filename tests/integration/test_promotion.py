"""Promotion, rollback and prune: one row changes, readers see the one or the other."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest

from tests.integration.generations import plant_books, random_vectors
from tests.integration.test_sources import FILM_QUERIES, keys, plant_films
from tterec import errors
from tterec.config import TrainingConfig
from tterec.database.connection import Connection, Database
from tterec.records import Progress
from tterec.store import generations, locks, pruning, reading, registry, sources, vector_tables


def publish(connection: Connection, queries: sources.Queries | None = None) -> int:
    """A small generation, ready to be promoted."""
    generation = generations.begin(connection, TrainingConfig(dim=8), queries)
    vectors = random_vectors(np.arange(1, 21), [1, 2], dim=8, seed=generation)
    generations.publish_vectors(connection, generation, vectors)
    return generation


def live(connection: Connection) -> tuple[int, int | None]:
    """The live and the previous generation."""
    row = connection.execute(
        "SELECT generation, previous_generation FROM tterec.active_model"
    ).fetchone()
    assert row is not None
    return int(row[0]), row[1]


def statuses(connection: Connection) -> list[str]:
    """Of all generations, the oldest first."""
    return [one.status for one in registry.list_generations(connection)]


def test_promotion_and_rollback_change_places(database: Database) -> None:
    with database.connect(autocommit=True) as connection:
        first, second = publish(connection), publish(connection)
        generations.promote(connection, first)
        assert live(connection) == (first, None)
        generations.promote(connection, second)
        assert live(connection) == (second, first)
        generations.promote(connection, second)
        assert live(connection) == (second, first)  # not its own predecessor
        assert generations.rollback(connection) == first
        assert live(connection) == (first, second)
        assert generations.rollback(connection) == second
        assert [one.active for one in registry.list_generations(connection)] == [False, True]


def test_what_cannot_be_promoted_is_refused_with_the_next_command(database: Database) -> None:
    with database.connect(autocommit=True) as connection:
        with pytest.raises(errors.UnknownGeneration, match="no generation 7; see: tterec models"):
            generations.promote(connection, 7)
        with pytest.raises(errors.NoActiveModel, match="tterec train"):
            generations.rollback(connection)
        building = generations.begin(connection)
        with pytest.raises(errors.UnknownGeneration, match="is building, only a ready one"):
            generations.promote(connection, building)
        generations.promote(connection, publish(connection))
        with pytest.raises(errors.UnknownGeneration, match="no previous generation"):
            generations.rollback(connection)


def test_a_live_generation_cannot_be_given_up(database: Database) -> None:
    with database.connect(autocommit=True) as connection:
        first = publish(connection)
        generations.promote(connection, first)
        assert not generations.fail(connection, first)
        assert statuses(connection) == ["ready"]
        assert vector_tables.generations_with_tables(connection) == [first]


def test_the_views_change_with_the_generation_and_back(database: Database) -> None:
    with database.connect(autocommit=True) as connection:
        plant_books(connection, 20)
        plant_films(connection)
        reading.read_sources(connection, FILM_QUERIES)
        books = publish(connection)
        generations.promote(connection, books)
        films = publish(connection, FILM_QUERIES)
        assert titles(connection) == 20  # not yet
        assert popular(connection, films) == {}
        generations.promote(connection, films)
        assert titles(connection) == 3
        assert popular(connection, films) == {
            keys(connection, "item")[film]: 1 for film in ("alien", "brazil", "m")
        }
        generations.rollback(connection)
        assert titles(connection) == 20
        assert sources.current_queries(connection) == sources.default_queries()


def titles(connection: Connection) -> int:
    """How many items the catalogue has."""
    row = connection.execute("SELECT count(*) FROM tterec.catalogue").fetchone()
    assert row is not None
    return int(row[0])


def popular(connection: Connection, generation: int) -> dict[int, int]:
    """Interactions by item, as kept for a generation."""
    return dict(
        connection.execute(
            "SELECT item_id, interactions FROM tterec.item_popularity WHERE generation = %s",
            (generation,),
        ).fetchall()
    )


def test_a_view_that_cannot_be_replaced_leaves_all_as_it_was(database: Database) -> None:
    with database.connect(autocommit=True) as connection:
        plant_films(connection)
        reading.read_sources(connection, FILM_QUERIES)
        generations.promote(connection, publish(connection))
        films = publish(connection, FILM_QUERIES)
        connection.execute("CREATE VIEW shop.mine AS SELECT * FROM tterec.catalogue")
        with pytest.raises(errors.SourceError, match=r"shop\.mine"):
            generations.promote(connection, films)
        assert live(connection)[0] != films
        assert sources.current_queries(connection) == sources.default_queries()


def test_prune_keeps_the_live_and_the_previous_generation(database: Database) -> None:
    with database.connect(autocommit=True) as connection:
        for _ in range(4):
            generations.promote(connection, publish(connection))
        generations.rollback(connection)
        done = pruning.prune(connection)
        assert done.pruned == [1, 2]
        assert done.left == {}
        assert vector_tables.generations_with_tables(connection) == [3, 4]
        assert statuses(connection) == ["pruned", "pruned", "ready", "ready"]
        assert popular(connection, 1) == {}
        assert pruning.prune(connection) == pruning.Pruned()
        assert generations.rollback(connection) == 4
        with pytest.raises(errors.UnknownGeneration, match="is pruned"):
            generations.promote(connection, 1)
        with pytest.raises(errors.UnknownGeneration, match="is pruned and has no towers"):
            registry.towers(connection, 1)


def test_prune_with_nothing_live_keeps_the_newest(database: Database) -> None:
    with database.connect(autocommit=True) as connection:
        publish(connection), publish(connection)
        assert pruning.prune(connection).pruned == [1]
        generations.promote(connection, 2)


def test_prune_removes_leftovers_but_not_what_is_being_built(database: Database) -> None:
    with database.connect(autocommit=True) as connection:
        generations.promote(connection, publish(connection))
        # Killed while it was building: its connection, and so its lock, is gone.
        with database.connect(autocommit=True) as killed:
            lost = generations.begin(killed)
        failed = publish(connection)
        connection.execute(
            "UPDATE tterec.models SET status = 'failed' WHERE generation = %s", (failed,)
        )
        connection.execute("CREATE TABLE tterec.history_vectors_77 ()")
        connection.execute("CREATE TABLE tterec.history_vectors_seventy ()")
        with database.connect(autocommit=True) as builder:
            building = generations.begin(builder)
            done = pruning.prune(connection)
            generations.publish_vectors(builder, building, random_vectors(np.arange(1, 21), dim=8))
        assert done.cleared == [lost, failed, 77]
        assert done.pruned == []
        assert statuses(connection) == ["ready", "failed", "failed", "ready"]
        assert vector_tables.generations_with_tables(connection) == [1, building]


def test_prune_leaves_what_is_about_to_be_promoted(database: Database) -> None:
    with database.connect(autocommit=True) as connection:
        generations.promote(connection, publish(connection))
        with database.connect(autocommit=True) as trainer:
            generation = publish(trainer)
            assert pruning.prune(connection) == pruning.Pruned()
            generations.promote(trainer, generation)


def test_prune_waits_out_readers_from_before_the_last_promotion(database: Database) -> None:
    told: list[Progress] = []
    with database.connect(autocommit=True) as connection, database.connect() as reader:
        generations.promote(connection, publish(connection))
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        assert live(reader) == (1, None)
        for _ in range(2):
            generations.promote(connection, publish(connection))
        done = pruning.prune(connection, wait_seconds=0.3, progress=told.append)
        assert done.pruned == []
        assert done.left == {1: "a transaction from before the last promotion is still open"}
        assert "Waiting up to 0 s for 1 transaction" in str(told[0].message)
        # The reader is on generation 1 still, and may go on.
        assert live(reader) == (1, None)
        reader.execute("SELECT * FROM tterec.item_vectors_1")
        with ThreadPoolExecutor() as pool:
            pruned = pool.submit(pruning.prune, connection, 30)
            assert not pruned.done()
            reader.commit()
            assert pruned.result(timeout=30).pruned == [1]


def test_a_reader_from_after_the_last_promotion_is_not_waited_for(database: Database) -> None:
    with database.connect(autocommit=True) as connection, database.connect() as reader:
        for _ in range(3):
            generations.promote(connection, publish(connection))
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        assert live(reader) == (3, 2)
        assert pruning.prune(connection, wait_seconds=0).pruned == [1]


def test_a_table_in_use_is_left_for_the_next_prune(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "_LOCK_TIMEOUT", "100ms")
    with database.connect(autocommit=True) as connection, database.connect() as reader:
        for _ in range(4):
            generations.promote(connection, publish(connection))
        reader.execute("LOCK TABLE tterec.user_vectors_1 IN ACCESS SHARE MODE")
        done = pruning.prune(connection, wait_seconds=0)
        assert done.left == {1: "its tables are in use"}
        assert done.pruned == [2]
        assert vector_tables.generations_with_tables(connection) == [1, 3, 4]
        reader.rollback()
        assert pruning.prune(connection).pruned == [1]


def test_a_promotion_that_is_kept_waiting_gives_up(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "PROMOTION_TIMEOUT", "100ms")
    with database.connect(autocommit=True) as connection, database.connect() as other:
        generation = publish(connection)
        locks.await_promotion(other)
        with pytest.raises(errors.Busy, match="try again"), database.connect() as third:
            generations.promote(third, generation)


def test_a_promotion_that_waits_for_a_reader_of_the_views_makes_no_other_wait(
    database: Database,
) -> None:
    """Nor does the reader, who wants another view meanwhile, end in a deadlock."""

    def change_views() -> None:
        with database.connect(autocommit=True) as connection:
            generations.promote(connection, 2)

    with database.connect(autocommit=True) as connection, database.connect() as reader:
        plant_books(connection, 20)
        plant_films(connection)
        reading.read_sources(connection, FILM_QUERIES)
        generations.promote(connection, publish(connection))
        assert publish(connection, FILM_QUERIES) == 2
        reader.execute("SELECT * FROM tterec.catalogue").fetchall()
        with ThreadPoolExecutor() as pool:
            waiting = pool.submit(change_views)
            longest, end = 0.0, time.monotonic() + 3
            while time.monotonic() < end:
                start = time.monotonic()
                rows = connection.execute("SELECT source FROM tterec.recommend(7, 3)").fetchall()
                longest = max(longest, time.monotonic() - start)
                assert len(rows) == 3
                assert not waiting.done()
            assert 0.1 < longest < 1  # some did wait, for a moment
            reader.execute("SELECT * FROM tterec.interactions").fetchall()
            reader.execute("SELECT * FROM tterec.source_users").fetchall()
            reader.commit()
            waiting.result(timeout=10)
        assert titles(connection) == 3


def test_everything_at_once_ends_with_a_live_generation(database: Database) -> None:
    """Promotions, rollbacks, prunes and publications cross; none deadlocks, and readers read on."""
    with database.connect(autocommit=True) as connection:
        for _ in range(3):
            generations.promote(connection, publish(connection))
    over = threading.Event()

    def again(act: Callable[[Connection, int], object]) -> int:
        with database.connect(autocommit=True) as connection:
            for turn in range(8):
                with suppress(errors.UnknownGeneration):  # pruned in the meantime
                    act(connection, turn)
        return 1

    def read() -> int:
        reads = 0
        with database.connect(autocommit=True) as connection:
            while not over.is_set():
                with connection.transaction():
                    connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                    number, _ = live(connection)
                    query = f"SELECT count(*) FROM tterec.item_vectors_{number}"
                    assert connection.execute(query.encode()).fetchone() == (20,)
                reads += 1
        return reads

    with ThreadPoolExecutor() as pool:
        readers = [pool.submit(read) for _ in range(2)]
        writers = [
            pool.submit(again, lambda c, _: generations.promote(c, publish(c))),
            pool.submit(again, lambda c, turn: generations.promote(c, 1 + turn)),
            pool.submit(again, lambda c, _: generations.rollback(c)),
            pool.submit(again, lambda c, _: pruning.prune(c)),
            pool.submit(again, lambda c, _: pruning.prune(c)),
        ]
        assert sum(writer.result(timeout=120) for writer in writers) == 5
        over.set()
        assert all(reader.result(timeout=10) > 0 for reader in readers)
    with database.connect(autocommit=True) as connection:
        kept = [number for number in live(connection) if number is not None]
        pruning.prune(connection)
        assert vector_tables.generations_with_tables(connection) == sorted(kept)
