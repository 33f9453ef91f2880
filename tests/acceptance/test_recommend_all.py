"""`tterec recommend --all -o FILE`: killed, interrupted and gone on with."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from tests.acceptance.test_help import assert_one_line, tterec
from tests.integration.generations import plant, plant_books, random_ranker, random_vectors
from tterec.database.connection import Database

BOOKS = 400
USERS = 6_000


@pytest.fixture
def shop(database: Database) -> Database:
    """Six thousand users with five ratings each."""
    random = np.random.default_rng(1)
    with database.connect() as connection:
        books = plant_books(connection, BOOKS)
        connection.execute("INSERT INTO tterec.users SELECT generate_series(1, %s)", (USERS,))
        connection.execute(
            "INSERT INTO tterec.ratings (user_id, book_id, rating)"
            " SELECT u, 1 + (u * 7 + n * 61) %% 400, 1 + (u + n) %% 10"
            " FROM generate_series(1, %s) u, generate_series(1, 5) n",
            (USERS,),
        )
        plant(
            connection, random_vectors(books, seed=random.integers(9)), ranker=random_ranker(books)
        )
    return database


@contextmanager
def stopped_half_way(shop: Database, file: Path) -> Iterator[subprocess.Popen[str]]:
    """A run that was stopped (SIGSTOP) when some of its lists were written."""
    part = file.with_name(f".{file.name}.part")
    command = [sys.executable, "-m", "tterec", "--database-url", shop.url]
    with subprocess.Popen(
        [*command, "recommend", "--all", "-o", str(file)], stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            while not part.exists() or part.stat().st_size < 1_000:
                assert process.poll() is None, "it ended before it could be stopped"
                time.sleep(0.001)
            process.send_signal(signal.SIGSTOP)
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def run(shop: Database, file: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return tterec("recommend", "--all", "-o", str(file), *options, url=shop.url)


@pytest.mark.skipif(os.name == "nt", reason="no signals of this kind")
def test_a_killed_run_is_gone_on_with(shop: Database, tmp_path: Path) -> None:
    whole, file = tmp_path / "whole.csv", tmp_path / "lists.csv"
    assert run(shop, whole).returncode == 0
    with stopped_half_way(shop, file) as process:
        refused = run(shop, file, "--resume")
        assert_one_line(refused, "another tterec is writing")
        process.kill()
        process.wait()
    assert not file.exists()
    refused = run(shop, file, "--resume", "-k", "5")
    assert_one_line(refused, "was begun with k 10, now it is 5")
    # What is written is not made again: the first user's list is the one of before.
    with shop.connect() as connection:
        (best,) = [int(row["isbn"]) for row in rows(whole) if row["user_id"] == "1"][:1]
        connection.execute("INSERT INTO tterec.ratings (user_id, book_id) VALUES (1, %s)", (best,))
    done = run(shop, file, "--resume")
    assert (done.returncode, done.stderr) == (0, "")
    assert file.read_text() == whole.read_text()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["lists.csv", "whole.csv"]
    assert run(shop, file, "--resume").returncode == 0  # nothing to go on with: from the start
    assert file.read_text() != whole.read_text()
    with shop.connect() as connection:
        plant(connection, random_vectors(np.arange(1, BOOKS + 1), seed=9))
    with stopped_half_way(shop, file) as process:
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGINT)
        assert "go on with the same command and --resume" in (process.communicate()[1] or "")
        assert process.returncode == 130
    with shop.connect() as connection:
        plant(connection, random_vectors(np.arange(1, BOOKS + 1), seed=3))
    assert_one_line(run(shop, file, "--resume"), "was begun with generation 2, now it is 3")


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


def test_resume_needs_a_file_and_many(tmp_path: Path) -> None:
    assert_one_line(tterec("recommend", "1", "--resume"), "--all -o FILE --resume")
    assert_one_line(tterec("recommend", "--all", "--resume"), "name it with -o FILE")
