"""The kills of tests/benchmarks/kills.py, each named instant once; and that they find faults."""

from __future__ import annotations

import time
from pathlib import Path

import psycopg
import pytest

from tests.benchmarks import kill_checks as checks
from tests.benchmarks.kill_commands import COMMANDS, READERS, Shop
from tests.benchmarks.kill_instants import after
from tests.benchmarks.kills import Report, again, one
from tests.integration.generations import plant, plant_books, plant_ratings, random_vectors
from tterec.database.connection import Database


@pytest.fixture
def shop(database: Database, tmp_path: Path) -> Shop:
    """A shop with a live generation, trained."""
    shop = Shop(database, tmp_path)
    shop.plant()
    assert again(shop, COMMANDS["train"]) == []
    return shop


def test_whoever_is_killed_the_shop_stays_whole(shop: Shop) -> None:
    """Each run gets further than the one that was killed before it; the last to its end."""
    report = Report()
    with checks.Readers(shop.database, READERS) as readers:
        for command in COMMANDS.values():
            for instant in command.instants:
                assert one(shop, command, instant, "client", report, rerun=False)
            one(shop, command, after(0.3), "client", report, rerun=False)
            last = command.instants[-1]
            assert one(shop, command, last, "session", report, rerun=True)
    print(*report.lines(), sep="\n")
    assert [*report.faults, *readers.faults] == []
    assert readers.lists.total() > 100
    assert len(readers.lists) > 1  # generations came and went


@pytest.fixture
def two_generations(database: Database) -> Database:
    """Two made-up generations of 60 books, the second live; a reader with five ratings."""
    with database.connect(autocommit=True) as connection:
        books = plant_books(connection, 60)
        plant_ratings(connection, 1, [1, 2, 3, 4, 5], [8] * 5)
        for seed in (1, 2):
            plant(connection, random_vectors(books, [1], seed=seed))
        connection.execute(
            "INSERT INTO tterec.item_state SELECT 2, book_id, gen_random_uuid() FROM tterec.books"
        )
    return database


def test_a_whole_shop_has_no_fault(two_generations: Database) -> None:
    with two_generations.connect() as connection:
        assert checks.half_visible(connection) == []
        assert checks.orphans(connection) == []


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ("CREATE TABLE tterec.user_vectors_77 ()", "tables of generation 77"),
        ("INSERT INTO tterec.models (status, objective, seed, config, sources)"
         " VALUES ('building', 'softmax', 0, '{}', '{}')", "generation 3 is building still"),
        ("UPDATE tterec.active_model SET previous_generation = NULL",
         "item_popularity has rows of generation 1"),
        ("DROP TABLE tterec.history_vectors_1", "has no tterec.history_vectors_1"),
        ("DELETE FROM tterec.history_vectors_2 WHERE item_id = 7", "differ in (1,) items"),
        ("UPDATE tterec.active_model SET generation = 1", "live_item_vectors differ in (60,)"),
        ("DELETE FROM tterec.active_model", "no generation is live"),
    ],
)  # fmt: skip
def test_what_is_half_there_or_left_over_is_found(
    two_generations: Database, damage: str, found: str
) -> None:
    with two_generations.connect() as connection:
        connection.execute(damage.encode())
        faults = [*checks.half_visible(connection), *checks.orphans(connection)]
    assert any(found in fault for fault in faults), faults


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ("DELETE FROM tterec.item_vectors_2 WHERE item_id > 12", "rows"),
        ("LOCK TABLE tterec.books", "statement timeout"),
        ("DELETE FROM tterec.active_model", "no generation is live"),
    ],
)
def test_readers_meet_what_is_wrong(two_generations: Database, damage: str, found: str) -> None:
    with (
        checks.Readers(two_generations, range(1, 2), patience=1) as readers,
        psycopg.connect(two_generations.url) as connection,
    ):
        connection.execute(damage.encode())
        if "LOCK" not in damage:
            connection.commit()
        deadline = time.monotonic() + 20
        while not readers.faults and time.monotonic() < deadline:
            time.sleep(0.02)
    assert any(found in fault for fault in readers.faults), readers.faults
