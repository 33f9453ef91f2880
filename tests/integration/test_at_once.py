"""Two commands at once on one database: one wins, the other says why, and nobody deadlocks.

They are processes, held at the instant that matters by tests/benchmarks/kill_instants.py.
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from tests.benchmarks.kill_checks import Readers, half_visible, orphans
from tests.benchmarks.kill_commands import COMMANDS, READERS, Shop
from tests.benchmarks.kill_instants import Instant, waiting
from tests.benchmarks.kill_processes import Running
from tests.benchmarks.kills import again
from tests.conftest import create_database, url_of
from tterec import pipeline
from tterec.database.connection import Connection, Database
from tterec.store import locks, registry

TRAIN, LOAD, UPDATE = COMMANDS["train"], COMMANDS["load"], COMMANDS["update"]
BUILT, PROMOTING = TRAIN.instants[2:]


@pytest.fixture(scope="module")
def shop(server: str, template: str) -> Iterator[Shop]:
    """A shop with a live generation, trained; readers meet nothing wrong in all of these tests."""
    name = create_database(server, template)
    with tempfile.TemporaryDirectory() as folder:
        shop = Shop(Database(url_of(server, name)), Path(folder))
        shop.plant()
        assert again(shop, TRAIN) == []
        with Readers(shop.database, READERS) as readers:
            yield shop
        assert readers.faults == []
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture(autouse=True)
def no_deadlock(shop: Shop) -> Iterator[None]:
    """What the server's log says of the test, and what is left when both are done."""
    with shop.database.connect() as connection:
        row = connection.execute("SHOW data_directory").fetchone()
    assert row is not None
    log = Path(row[0]) / "server.log"
    size = log.stat().st_size
    yield
    with log.open("rb") as file:
        file.seek(size)
        assert b"deadlock detected" not in file.read()
    pipeline.models_prune(shop.database)
    with shop.database.connect() as connection:
        assert half_visible(connection) == []
        assert orphans(connection) == []


def run(shop: Shop, *arguments: str) -> Running:
    return Running(shop.database, f"at once {next(shop.numbers)}", list(arguments), shop.folder)


@contextmanager
def held(shop: Shop, instant: Instant, *arguments: str) -> Iterator[Running]:
    """The command, at this instant as long as the block runs."""
    who = f"at once {next(shop.numbers)}"
    with (
        instant.hold(shop.database) as reached,
        shop.database.connect(autocommit=True) as watcher,
    ):
        process = Running(shop.database, who, list(arguments), shop.folder)
        end = time.monotonic() + 120
        while not reached(watcher, who):
            assert process.ended is None, process.said
            assert time.monotonic() < end, process.said
            time.sleep(0.01)
        yield process


def refused(process: Running, *words: str) -> None:
    """It ended with one line of error, which says these."""
    assert process.wait() == 1, process.said
    (line,) = [line for line in process.said.splitlines() if line.startswith("Error: ")]
    assert "Traceback" not in process.said
    for word in words:
        assert word in line


def live(shop: Shop) -> int:
    with shop.database.connect() as connection:
        found = registry.live(connection)
    assert found is not None
    return found


def test_of_two_trains_one_is_told_so_at_once(shop: Shop) -> None:
    before = live(shop)
    arguments = TRAIN.arguments(shop)
    with held(shop, BUILT, *arguments) as first:
        second = run(shop, *arguments)
        refused(second, "another `tterec train`", "wait until it is done")
        assert live(shop) == before
    assert first.wait() == 0
    assert live(shop) == before + 1  # the one that was refused has not even begun one


@pytest.mark.parametrize(
    "hold",
    [locks.hold_training, locks.hold_tuning, locks.hold_update, locks.hold_precompute],
    ids=lambda hold: hold.__name__,
)
def test_a_session_that_is_about_to_end_is_waited_for(
    database: Database, hold: Callable[[Connection], None]
) -> None:
    """A command that has just ended may still hold its lock when the next one begins."""
    with database.connect(autocommit=True) as ended, database.connect(autocommit=True) as begun:
        hold(ended)
        closing = threading.Timer(0.3, ended.close)
        closing.start()
        hold(begun)
        closing.join()


def test_of_two_updates_one_is_told_so_at_once(shop: Shop) -> None:
    UPDATE.prepare(shop)
    with held(shop, UPDATE.instants[0], "update") as first:
        refused(run(shop, "update"), "another update is running", "try again")
    assert first.wait() == 0
    with shop.database.connect() as connection:
        assert UPDATE.done(shop, connection) == []


def test_of_two_precomputes_one_is_told_so_at_once(shop: Shop) -> None:
    precompute = COMMANDS["precompute"]
    precompute.prepare(shop)
    with held(shop, precompute.instants[-1], "precompute") as first:
        refused(run(shop, "precompute"), "another `tterec precompute` is running", "wait until")
    assert first.wait() == 0
    with shop.database.connect() as connection:
        assert precompute.done(shop, connection) == []


def test_of_two_loads_one_is_told_so_at_once(shop: Shop) -> None:
    LOAD.prepare(shop)
    arguments = LOAD.arguments(shop)
    with held(shop, LOAD.instants[1], *arguments) as first:
        refused(run(shop, *arguments), "another `tterec load` is running", "wait until it is done")
        with shop.database.connect() as connection:
            assert LOAD.half(shop, connection) == []
    assert first.wait() == 0
    with shop.database.connect() as connection:
        assert LOAD.done(shop, connection) == []


def test_an_upgrade_leaves_who_trains_or_makes_lists_to_end_and_says_who(shop: Shop) -> None:
    precompute = COMMANDS["precompute"]
    precompute.prepare(shop)
    with held(shop, BUILT, *TRAIN.arguments(shop)) as training:
        refused(run(shop, "db", "upgrade"), "a training runs on this database", "pg_stat_activity")
        assert training.ended is None
    assert training.wait() == 0
    with held(shop, precompute.instants[-1], "precompute") as lists:
        refused(run(shop, "db", "upgrade"), "`tterec precompute` runs", "pg_stat_activity")
        assert lists.ended is None
    assert lists.wait() == 0
    applying = waiting("", "LOCK TABLE tterec.schema_state IN SHARE MODE")
    with held(shop, applying, "db", "upgrade") as upgrade:
        other = run(shop, "db", "upgrade")
        for arguments in (TRAIN.arguments(shop), ["precompute"]):
            refused(run(shop, *arguments), "`tterec db upgrade` is running", "wait until")
    assert (upgrade.wait(), other.wait()) == (0, 0)


@pytest.mark.parametrize("instant", TRAIN.instants[::2], ids=lambda one: one.name)
def test_a_prune_leaves_what_a_training_builds(shop: Shop, instant: Instant) -> None:
    before = live(shop)
    with held(shop, instant, *TRAIN.arguments(shop)) as training:
        prune = run(shop, "models", "prune")
        if instant is not BUILT:  # who promotes and who prunes wait for each other's lock
            assert prune.wait() == 0, prune.said
            assert training.ended is None
    assert prune.wait() == 0, prune.said
    assert training.wait() == 0, training.said
    assert live(shop) > before


def test_promotions_and_rollbacks_at_once_follow_each_other(shop: Shop) -> None:
    second = live(shop)
    first = pipeline.models_rollback(shop.database)
    commands = [("models", "promote", str(second)), ("models", "rollback")] * 3
    with held(shop, waiting("", "LOCK TABLE tterec.active_model IN SHARE MODE"), *commands[0]) as p:
        running = [p, *(run(shop, *command) for command in commands[1:])]
        time.sleep(1)
    for process in running:
        assert process.wait() == 0, process.said
    assert live(shop) in (first, second)


def test_who_waits_too_long_for_a_promotion_says_for_whom(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = live(shop)
    with shop.database.connect() as other:
        locks.await_promotion(other)
        waits = [run(shop, "models", "rollback"), run(shop, *TRAIN.arguments(shop))]
        refused(waits[0], "another process is promoting", "try again when it is done")
        refused(waits[1], "is ready but not live", "another process", "tterec models promote")
    assert live(shop) == before


def test_a_promotion_does_not_wait_for_an_update_which_starts_over(shop: Shop) -> None:
    trained = live(shop)
    assert again(shop, TRAIN) == []
    UPDATE.prepare(shop)
    with held(shop, UPDATE.instants[0], "update") as update:
        pipeline.models_rollback(shop.database)
        assert update.ended is None
    assert update.wait() == 0, update.said
    assert "is no longer live; starting over" in update.said
    assert live(shop) == trained
    with shop.database.connect() as connection:
        assert UPDATE.done(shop, connection) == []
