"""A load beside apps, beside another load, and one that is killed."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tterec import errors
from tterec.database.connection import Database
from tterec.records import Progress
from tterec.store import load as loading

HEAD = "user_id,isbn,rating\n"


def ratings_file(path: Path, count: int) -> Path:
    """A file of this many ratings, each by a user of its own."""
    with path.open("w") as file:
        file.write(HEAD)
        file.writelines(f"{n + 1},B{n % 5000},{n % 11}\n" for n in range(count))
    return path


def value(database: Database, query: str) -> Any:
    with database.connect() as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row[0]


def wait_until(condition: Callable[[], bool]) -> None:
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it never came true")


def test_of_two_loads_at_once_the_second_is_refused(database: Database, tmp_path: Path) -> None:
    path = ratings_file(tmp_path / "r.csv", 100)
    second: list[str] = []

    def meanwhile(_: Progress) -> None:
        if not second:
            began = time.monotonic()
            with pytest.raises(errors.Busy) as caught:
                loading.load(database, ratings=path)
            assert time.monotonic() - began < 5
            second.append(str(caught.value))

    loading.load(database, ratings=path, progress=meanwhile)
    assert "another `tterec load` is running" in second[0]
    assert value(database, "SELECT count(*) FROM tterec.ratings") == 100
    assert loading.load(database, ratings=path).files[0].new == 0


def test_a_load_that_waits_too_long_for_a_row_of_an_app_says_busy(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "LOCK_TIMEOUT", "50ms")
    path = tmp_path / "r.csv"
    path.write_text(HEAD + "1,A,5\n")
    loading.load(database, ratings=path)
    path.write_text(HEAD + "1,A,6\n2,B,7\n")
    with database.connect() as app:
        app.execute("UPDATE tterec.ratings SET rating = 9")
        with pytest.raises(errors.Busy, match="another session holds the lock"):
            loading.load(database, ratings=path)
    assert value(database, "SELECT sum(rating) FROM tterec.ratings") == 9


def test_an_app_that_inserts_the_same_row_first_is_met(database: Database, tmp_path: Path) -> None:
    """On tables in use a load takes no lock, and a row that appears meanwhile is updated."""
    path = tmp_path / "r.csv"
    path.write_text(HEAD + "1,A,5\n2,NEW,6\n")
    loading.load(database, ratings=path)
    path.write_text(HEAD + "3,A,7\n2,NEWER,8\n")
    summaries = []
    with database.connect() as app:
        app.execute("INSERT INTO tterec.users (user_id) VALUES (3)")
        app.execute("INSERT INTO tterec.books (isbn) VALUES ('NEWER')")
        app.execute("INSERT INTO tterec.ratings VALUES (3, 1, 1)")
        thread = threading.Thread(
            target=lambda: summaries.append(loading.load(database, ratings=path))
        )
        thread.start()
        waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        wait_until(lambda: value(database, waits) > 0)
    thread.join()
    assert value(database, "SELECT rating FROM tterec.ratings WHERE user_id = 3") == 7
    assert value(database, "SELECT count(*) FROM tterec.books") == 3
    assert value(database, "SELECT count(*) FROM tterec.users") == 3
    assert len(summaries) == 1


def test_an_app_that_holds_an_empty_table_does_not_stop_a_load(
    database: Database, tmp_path: Path
) -> None:
    path = tmp_path / "r.csv"
    path.write_text(HEAD + "1,A,5\n")
    with database.connect() as app:
        app.execute("INSERT INTO tterec.users (user_id) VALUES (77)")
        app.execute("INSERT INTO tterec.books (isbn) VALUES ('B')")
        assert loading.load(database, ratings=path).files[0].new == 1
    assert value(database, "SELECT count(*) FROM tterec.users") == 2


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("moment", ["COPY", "INSERT INTO tterec.ratings"])
@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_a_killed_load_leaves_the_database_as_it_was(
    database: Database, tmp_path: Path, moment: str, name: str
) -> None:
    path = ratings_file(tmp_path / "r.csv", 150_000)
    command = [sys.executable, "-m", "tterec", "load", "--ratings", str(path)]
    process = subprocess.Popen(
        [*command, "--database-url", database.url], stderr=subprocess.PIPE, text=True
    )
    running = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        f" AND state = 'active' AND pid <> pg_backend_pid() AND query LIKE '%{moment}%'"
    )
    wait_until(lambda: value(database, running) > 0)
    process.send_signal(getattr(signal, name))
    _, said = process.communicate(timeout=60)
    assert process.returncode != 0
    if name != "SIGKILL":
        assert said == "Stopped; nothing was loaded.\n"
        assert process.returncode == 128 + getattr(signal, name)
    others = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'tterec%'"
    wait_until(
        lambda: value(database, f"{others} AND datname = current_database()") == 1  # this one
    )
    for table in ("users", "books", "ratings", "rejected_rows"):
        assert value(database, f"SELECT count(*) FROM tterec.{table}") == 0
    path.write_text(HEAD + "1,A,5\n")
    assert loading.load(database, ratings=path).changed == 3
