"""Postgres is killed under readers, writers, a worker and a training, and comes back."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import psycopg
import pytest

from tests.benchmarks.kill_checks import half_visible, orphans
from tests.benchmarks.kill_commands import COMMANDS, Shop
from tests.benchmarks.kill_processes import Running
from tests.benchmarks.kills import again
from tests.integration.test_train import CONFIG, SHOP
from tterec import Recommender, errors, pipeline
from tterec.database import system_user
from tterec.database.cluster import Cluster
from tterec.database.connection import Database

DOWN = 2.5  # seconds
K = 10


class Server:
    """A server of this test alone, that can be killed."""

    def __init__(self, home: Path) -> None:
        self.cluster = Cluster(home)
        self.cluster.create()
        self.database = Database(self.cluster.start().url("postgres"))

    def kill(self) -> None:
        """`kill -9` of the postmaster and of all its children."""
        postmaster = self.cluster.postmaster()
        assert postmaster is not None
        for process in (postmaster, *postmaster.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                process.kill()
        until(lambda: self.cluster.postmaster() is None)


@pytest.fixture
def server() -> Iterator[Server]:
    home = Path(tempfile.mkdtemp(prefix="tterec-test-"))
    system_user.open_home(home)
    server = Server(home)
    pipeline.upgrade(server.database)
    yield server
    if server.cluster.postmaster() is not None:
        server.cluster.stop()
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def trained(server: Server) -> Server:
    """With a small bookshop and a live generation."""
    with server.database.connect() as connection:
        connection.execute(SHOP)
    pipeline.train(server.database, CONFIG)
    return server


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.02)


class Actor(threading.Thread):
    """Does the same again and again; keeps the errors, and when it last succeeded."""

    def __init__(self, act: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self._act, self._over = act, threading.Event()
        self.errors: list[Exception] = []
        self.done = 0
        self.start()

    def run(self) -> None:
        while not self._over.wait(0.02):
            try:
                self._act()
                self.done += 1
            except Exception as error:
                self.errors.append(error)

    def end(self) -> None:
        self._over.set()
        self.join(timeout=60)
        assert not self.is_alive()


class Writer:
    """Commits a book and a rating of it each time; knows what it has committed."""

    def __init__(self, database: Database) -> None:
        self._database, self.committed = database, list[int]()
        self._next = 1000

    def __call__(self) -> None:
        self._next += 1
        with self._database.connect() as connection:
            connection.execute(
                "INSERT INTO tterec.books (book_id, isbn, author) VALUES (%s, %s, 'Author 1')",
                (self._next, f"W{self._next}"),
            )
            connection.execute(
                "INSERT INTO tterec.ratings VALUES (%s, %s, 7)", (self._next % 90 + 1, self._next)
            )
        self.committed.append(self._next)


def test_everybody_survives_a_dead_server_and_nothing_is_lost(trained: Server) -> None:
    """A training too, if the server is back when it has learned."""
    server, database, folder = trained, trained.database, trained.cluster.home
    recommender, writer = Recommender(database), Writer(database)

    def recommend() -> None:
        assert len(recommender.recommend(5, K)) == K

    worker = Running(database, "worker", ["worker", "--poll", "0.5"], folder)
    reader, writing = actors = [Actor(recommend), Actor(writer)]
    until(lambda: "Following the changes." in worker.said)
    until(lambda: reader.done > 10 and writing.done > 10)
    (folder / "train.toml").write_text("dim = 8\nepochs = 6\npatience = 6\n")
    training = Running(database, "train", ["train", "--config", str(folder / "train.toml")], folder)
    until(lambda: "epoch 2" in training.said)
    training.signal(signal.SIGSTOP)
    assert [actor.errors for actor in actors] == [[], []]

    server.kill()
    time.sleep(DOWN)
    before = reader.done, writing.done
    server.cluster.start()

    until(lambda: reader.done > before[0] + 20 and writing.done > before[1] + 20)
    for actor in actors:
        actor.end()
        assert actor.errors
        for error in actor.errors:
            assert isinstance(error, errors.ConnectionFailed)
            assert "; " in str(error)
            assert "\n" not in str(error)
    assert any("start the server" in str(error) for error in reader.errors)
    with database.connect() as connection:
        books = connection.execute(
            "SELECT book_id FROM tterec.books JOIN tterec.ratings USING (book_id)"
            " WHERE book_id > 1000"
        ).fetchall()
    assert set(writer.committed) <= {book for (book,) in books}

    until(lambda: _embedded(database, 1) >= set(writer.committed))
    assert "; trying again in 1 s" in worker.said
    assert "; trying again in 2 s" in worker.said  # later and later
    assert worker.said.count("Following the changes.") >= 2
    training.signal(signal.SIGCONT)
    assert training.wait() == 0, training.said
    assert recommender.generation() == 2
    until(lambda: _embedded(database, 2) >= set(writer.committed))
    worker.terminate()
    assert worker.wait() == 0
    recommender.close()


def _embedded(database: Database, generation: int) -> set[int]:
    query = f"SELECT item_id FROM tterec.item_vectors_{generation}"
    with database.connect() as connection:
        rows = connection.execute(query.encode()).fetchall()
    return {item for (item,) in rows}


def test_who_is_cut_off_says_so_in_a_line_and_the_next_run_works(server: Server) -> None:
    shop = Shop(server.database, server.cluster.home)
    shop.plant()
    assert again(shop, COMMANDS["train"]) == []
    for command in COMMANDS.values():
        command.prepare(shop)
        who = f"cut {command.name}"
        with (
            suppress(errors.ConnectionFailed),  # who holds it there is cut off, too
            command.instants[-1].hold(server.database) as reached,
        ):
            process = Running(server.database, who, command.arguments(shop), shop.folder)
            with server.database.connect(autocommit=True) as watcher:
                until(lambda reached=reached, watcher=watcher, who=who: reached(watcher, who))
            server.kill()
            if command.stays:
                until(lambda process=process: "; trying again in 1 s" in process.said)
            else:
                assert process.wait() == 1
        server.cluster.start()
        with server.database.connect() as connection:
            assert [*half_visible(connection), *command.half(shop, connection)] == []
        if command.stays:
            process.terminate()
            assert process.wait() == 0
        else:
            (line,) = [line for line in process.said.splitlines() if line.startswith("Error: ")]
            assert "connection" in line
        assert "Traceback" not in process.said
        assert again(shop, command) == []
    pipeline.models_prune(server.database)
    with server.database.connect() as connection:
        assert orphans(connection) == []


def test_who_asked_before_and_asks_after_notices_nothing(trained: Server) -> None:
    server = trained
    with Recommender(server.database) as recommender:
        before = recommender.recommend(5, K)
        server.kill()
        with pytest.raises(errors.ConnectionFailed, match="start the server"):
            recommender.recommend(5, K)
        server.cluster.start()
        assert recommender.recommend(5, K) == before
        server.kill()
        server.cluster.start()
        assert recommender.recommend(5, K) == before


def test_one_dead_backend_ends_all_sessions_and_all_come_back(trained: Server) -> None:
    """The server itself restarts then, in a moment."""
    server = trained
    with Recommender(server.database) as recommender:
        before = recommender.recommend(5, K)
        with psycopg.connect(server.database.url) as connection:
            pid = connection.info.backend_pid
            os.kill(pid, signal.SIGKILL)
            with pytest.raises(psycopg.OperationalError):
                connection.execute("SELECT 1")

        refused: list[str] = []

        def answers() -> bool:
            try:
                return recommender.recommend(5, K) == before
            except errors.ConnectionFailed as error:
                refused.append(str(error))
                return False

        until(answers)
    assert not [error for error in refused if "check the address" in error]
