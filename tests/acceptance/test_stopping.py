"""Every long command can be watched and stopped: it shows its name and stage to a DBA, and after
Ctrl-C or SIGTERM nothing of it goes on, on the server either."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest

from tests.conftest import create_database, url_of
from tests.integration.test_train import CONFIG, SHOP
from tterec import pipeline
from tterec.database.connection import Database

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")


class Case(NamedTuple):
    """A command, the table whose lock keeps it in the middle of a query, what its session is
    called then, what the command says that it leaves, and its exit code where that is no signal's.
    """

    command: str
    table: str
    shown: str
    left: str | None = None
    exit: int | None = None


CASES = [
    Case("load --users users.csv", "users", "load", "nothing was loaded"),
    Case("train", "ratings", "train", "nothing was published"),
    Case("evaluate", "ratings", "evaluate", "nothing was stored"),
    Case("tune --budget 1h", "ratings", "tune", "no trial was finished"),
    Case("update", "books", "update", "what was done is kept; the next update"),
    Case("update --fine-tune", "books", "update --fine-tune", "nothing was publish"),
    Case("cluster --clusters 3", "books", "cluster", "no clusters were stored"),
    Case("precompute", "ratings", "precompute", "the lists that were made are kept"),
    Case("bench-index", "ratings", "bench-index"),
    Case("recommend --all -o lists.csv", "ratings", "recommend"),
    Case("stats", "ratings", "stats"),
    Case("worker", "books", "worker", exit=0),
    Case("worker --once", "books", "worker", "what is not finished stays queued"),
]


@pytest.fixture(scope="module")
def shop(server: str, template: str) -> Iterator[Database]:
    """A small bookshop with a live generation, for all of them: they leave it as it was."""
    name = create_database(server, template)
    database = Database(url_of(server, name))
    with database.connect() as connection:
        connection.execute(SHOP)
    pipeline.train(database, CONFIG)
    yield database
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def names(connection: psycopg.Connection[Any], state: str = "") -> list[str]:
    """What the sessions of tterec in this database are called."""
    return [
        str(row[0])
        for row in connection.execute(
            "SELECT application_name FROM pg_stat_activity WHERE datname = current_database()"
            f" AND application_name LIKE 'tterec%' {state} ORDER BY 1".encode()
        )
    ]


def waiting(connection: psycopg.Connection[Any], name: str) -> bool:
    """Whether a session of that name, in whatever stage, waits for a table."""
    return any(
        one.partition(":")[0] == name for one in names(connection, "AND wait_event_type = 'Lock'")
    )


def contents(connection: psycopg.Connection[Any]) -> list[Any]:
    """The relations of the schema, and the rows of those that matter here."""
    queries = (
        "SELECT relname FROM pg_class WHERE relnamespace = 'tterec'::regnamespace ORDER BY 1",
        "SELECT generation, status FROM tterec.models WHERE status <> 'failed' ORDER BY 1",
        "SELECT generation, previous_generation FROM tterec.active_model",
        "SELECT count(*) FROM tterec.clusters",
        "SELECT count(*), max(user_id) FROM tterec.users",
        "SELECT count(*) FROM tterec.item_state",
    )
    return [connection.execute(query.encode()).fetchall() for query in queries]


@pytest.mark.parametrize(
    ("case", "number"),
    [
        *((case, signal.SIGTERM) for case in CASES),
        *((case, signal.SIGINT) for case in CASES if case.command in ("update", "train")),
    ],
    ids=lambda one: getattr(one, "command", getattr(one, "name", "")),
)
def test_a_signal_ends_the_command_and_its_query(
    shop: Database, tmp_path: Path, case: Case, number: signal.Signals
) -> None:
    (tmp_path / "users.csv").write_text("User-ID,Location,Age\n7001,here,30\n")
    with (
        psycopg.connect(shop.url, autocommit=True) as watcher,
        psycopg.connect(shop.url) as holder,
    ):
        before = contents(watcher)
        holder.execute(f"LOCK tterec.{case.table} IN ACCESS EXCLUSIVE MODE".encode())
        process = subprocess.Popen(
            [sys.executable, "-m", "tterec", *case.command.split()],
            cwd=tmp_path,
            env={**os.environ, "TTEREC_DATABASE_URL": shop.url},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
        )
        try:
            deadline = time.monotonic() + 30
            while not waiting(watcher, f"tterec {case.shown}"):
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < deadline, names(watcher)
                time.sleep(0.05)
            process.send_signal(number)
            stdout, stderr = process.communicate(timeout=30)
        finally:
            process.kill()
            process.communicate()
        assert process.returncode == (128 + number if case.exit is None else case.exit)
        assert stdout == ""
        assert stderr.startswith(f"Stopped; {case.left}" if case.left else "Stopped."), stderr
        assert stderr.count("\n") == 1
        deadline = time.monotonic() + 5
        while names(watcher):  # and the lock is held still: nobody waits for it
            assert time.monotonic() < deadline, names(watcher)
            time.sleep(0.05)
        holder.rollback()
        assert contents(watcher) == before
    assert [path.name for path in tmp_path.iterdir()] == ["users.csv"]
