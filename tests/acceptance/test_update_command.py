"""`tterec update` and `tterec worker` as people run them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psycopg
import pytest

from tests.acceptance.test_help import tterec
from tests.integration.test_train import CONFIG, SHOP
from tests.integration.test_update import NEW_BOOK, many_books, one, run
from tterec import pipeline
from tterec.database.connection import Database


@pytest.fixture
def shop(database: Database) -> Database:
    """A small bookshop with a live generation."""
    run(database, SHOP)
    pipeline.train(database, CONFIG)
    return database


def start(database: Database, *arguments: str) -> subprocess.Popen[str]:
    """The command, running."""
    return subprocess.Popen(
        [sys.executable, "-m", "tterec", *arguments],
        env=os.environ | {"TTEREC_DATABASE_URL": database.url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


def test_update_ends_with_one_line(shop: Database) -> None:
    run(shop, NEW_BOOK, "DELETE FROM tterec.users WHERE user_id = 7")
    done = tterec("update", url=shop.url)
    assert done.returncode == 0, done.stderr
    line, *rest = done.stdout.splitlines()
    assert rest == []
    assert line.startswith(
        "Generation 1 is up to date: 1 new, 0 changed and 0 deleted items; "
        "0 new, 0 changed and 1 deleted users; "
    )
    assert done.stderr == ""
    listed = tterec("models", "list", url=shop.url).stdout.splitlines()
    assert listed[0].endswith("deleted users")
    assert listed[1].split()[-1] == "1"


def test_without_a_generation_update_says_what_to_do(database: Database) -> None:
    done = tterec("update", url=database.url)
    assert done.returncode == 1
    assert done.stderr == "Error: No generation is live; run: tterec train\n"


def test_a_killed_update_goes_on_with_the_next(shop: Database) -> None:
    run(shop, many_books(4000))
    process = start(shop, "update")
    written = "SELECT count(*) FROM tterec.item_vectors_1"
    while one(shop, written) == 60:
        assert process.poll() is None
        time.sleep(0.005)
    process.kill()
    process.communicate()
    left = 4060 - one(shop, written)
    done = tterec("update", url=shop.url)
    assert done.returncode == 0, done.stderr
    assert f" {left:,} new, 0 changed and 0 deleted items" in done.stdout
    assert one(shop, written) == 4060
    assert one(shop, "SELECT count(*) FROM tterec.item_state") == 4060


def test_once_is_for_cron(shop: Database) -> None:
    assert tterec("worker", "--once", url=shop.url).returncode == 0
    run(shop, NEW_BOOK)
    done = tterec("worker", "--once", url=shop.url)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "Done: 1 item, 0 users, 0 updates of everything\n"
    assert one(shop, "SELECT count(*) FROM tterec.changes") == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_worker(shop: Database, number: signal.Signals) -> None:
    process = start(shop, "worker", "--poll", "30")
    try:
        assert process.stderr is not None
        assert process.stderr.readline() == "Following the changes.\n"
        run(shop, NEW_BOOK)
        deadline = time.monotonic() + 20
        while one(shop, "SELECT count(*) FROM tterec.item_vectors_1") == 60:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0
    assert said.splitlines()[-1] == "Stopped."
    with psycopg.connect(shop.url) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%'"
        ).fetchone()
    assert row == (0,)
