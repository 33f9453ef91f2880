"""Where the server gives no more: a clear error with its mend, nothing changed, and then it works.

Disks are small ones in memory, mounted for the test; where they cannot be, it is skipped.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from tests.benchmarks.kill_checks import half_visible, orphans
from tests.benchmarks.kill_commands import COMMANDS, READERS, Command, Shop
from tests.benchmarks.kill_instants import sessions
from tests.benchmarks.kill_processes import Running
from tests.benchmarks.kills import again
from tests.conftest import create_database, url_of
from tterec import Recommender, errors, pipeline
from tterec.database import doctor, system_user
from tterec.database.connection import Connection, Database
from tterec.store import registry


@contextmanager
def small_disk(megabytes: int) -> Iterator[Path]:
    """An empty disk that the server may use, by its place."""
    folder = Path(tempfile.mkdtemp(prefix="tterec-disk-"))
    mount = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        folder.rmdir()
        pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
    try:
        folder.chmod(0o711)
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)
        folder.rmdir()


def fill(disk: Path) -> Path:
    """Leave no byte free; the file that holds them."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(1 << 16))
        except OSError:
            pass
        try:
            while True:
                file.write(bytes(512))
        except OSError:
            return ballast


def said_why(process: Running, *words: str) -> None:
    """It ended with one line of error, which says these."""
    assert process.wait(120) == 1, process.said
    assert "Traceback" not in process.said
    (line,) = [line for line in process.said.splitlines() if line.startswith("Error: ")]
    for word in words:
        assert word in line


@pytest.fixture(scope="module")
def planted(server: str, template: str) -> Iterator[tuple[str, Path]]:
    """A database with a shop and a live generation, to be copied; and a folder."""
    name = create_database(server, template)
    with tempfile.TemporaryDirectory() as folder:
        shop = Shop(Database(url_of(server, name)), Path(folder))
        shop.plant()
        assert again(shop, COMMANDS["train"]) == []
        yield name, Path(folder)
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@contextmanager
def copy_of(
    server: str, planted: tuple[str, Path], tablespace: str | None = None
) -> Iterator[Shop]:
    """The planted shop, in a database of its own; it must be whole in the end."""
    template, folder = planted
    name = create_database(server, template, tablespace)
    shop = Shop(Database(url_of(server, name)), folder)
    try:
        yield shop
        pipeline.models_prune(shop.database)
        with shop.database.connect() as connection:
            assert half_visible(connection) == []
            assert orphans(connection) == []
    finally:
        with psycopg.connect(server, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture
def shop(server: str, planted: tuple[str, Path]) -> Iterator[Shop]:
    """A copy of the planted shop."""
    with copy_of(server, planted) as found:
        yield found


def run(shop: Shop, command: Command, url: str | None = None) -> Running:
    """The command in its form that ends by itself, perhaps by another URL."""
    database = Database(url) if url else shop.database
    arguments = [*command.arguments(shop), *command.again]
    return Running(database, f"limits {command.name}", arguments, shop.folder)


def execute(database: Database, *statements: str) -> None:
    with database.connect(autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def dbname(database: Database) -> str:
    return str(psycopg.conninfo.conninfo_to_dict(database.url)["dbname"])


def live(database: Database) -> int | None:
    with database.connect() as connection:
        return registry.live(connection)


def problems(database: Database) -> list[str]:
    """What the doctor finds wrong, with the mends."""
    return [f"{one.what}; {one.mend}" for one in doctor.examine(database) if one.problem]


def test_after_an_idle_timeout_a_recommender_connects_anew(database: Database) -> None:
    with database.connect() as connection:
        connection.execute(
            f"ALTER DATABASE {connection.info.dbname} SET idle_session_timeout = '300ms'".encode()
        )
    with Recommender(database) as recommender:
        assert recommender.popular(3) == []
        time.sleep(1)
        assert recommender.popular(3) == []


@contextmanager
def on_a_small_disk(server: str, planted: tuple[str, Path]) -> Iterator[tuple[Shop, Path]]:
    """A copy of the planted shop, and the disk of 64 MB on which the server keeps it."""
    with small_disk(64) as disk, psycopg.connect(server, autocommit=True) as admin:
        place = disk / "tablespace"
        place.mkdir()
        system_user.hand_over(place)
        admin.execute(f"CREATE TABLESPACE small LOCATION '{place}'".encode())
        try:
            with copy_of(server, planted, "small") as shop:
                yield shop, disk
        finally:
            admin.execute("DROP TABLESPACE small")


def test_on_a_full_disk_each_command_says_so_and_leaves_all_as_it_was(
    server: str, planted: tuple[str, Path]
) -> None:
    with on_a_small_disk(server, planted) as (shop, disk):
        COMMANDS["load"].prepare(shop)
        COMMANDS["update"].prepare(shop)
        assert not any("disk" in one for one in problems(shop.database))
        ballast = fill(disk)
        assert any("disk" in one and str(disk) in one for one in problems(shop.database))
        for name in ("train", "load"):
            said_why(run(shop, COMMANDS[name]), "No space left", "free disk space")
            with shop.database.connect() as connection:
                faults = COMMANDS[name].half(shop, connection)
                assert [*faults, *half_visible(connection)] == []
        assert live(shop.database) == 1
        with Recommender(shop.database) as recommender:
            assert all(len(recommender.recommend(user, 10)) == 10 for user in READERS)
        ballast.unlink()
        for name in ("train", "load", "update"):
            assert again(shop, COMMANDS[name]) == []


def followed(connection: Connection) -> list[object]:
    """What updates, workers and `precompute` have written of the live generation, and the queue."""
    return [
        *connection.execute("SELECT count(*) FROM tterec.item_vectors_1").fetchall(),
        *connection.execute("SELECT count(*) FROM tterec.history_vectors_1").fetchall(),
        *connection.execute("SELECT user_id, xmin::text FROM tterec.user_lists ORDER BY 1"),
        *connection.execute("SELECT change_id FROM tterec.changes ORDER BY 1"),
    ]


def lists(connection: Connection) -> list[object]:
    """What readers whose own ratings stay as they are see."""
    return connection.execute(
        "SELECT u, l.* FROM unnest(%s::bigint[]) u, tterec.recommend(u, 10) l",
        (list(READERS),),
    ).fetchall()


def test_on_a_full_disk_who_follows_the_live_generation_says_so_and_goes_on_later(
    server: str, planted: tuple[str, Path]
) -> None:
    with ExitStack() as stack:
        shop, disk = stack.enter_context(on_a_small_disk(server, planted))
        # A session that begins on a full disk may be refused.
        watching = stack.enter_context(shop.database.connect(autocommit=True))
        assert again(shop, COMMANDS["precompute"]) == []
        COMMANDS["precompute"].prepare(shop)
        COMMANDS["update"].prepare(shop)
        ballast = fill(disk)
        before, seen = followed(watching), lists(watching)
        for name in ("precompute", "update", "worker"):
            said_why(run(shop, COMMANDS[name]), "No space left", "free disk space")
            assert (followed(watching), lists(watching)) == (before, seen)
        worker = Running(shop.database, "limits at work", ["worker"], shop.folder)
        end = time.monotonic() + 60
        # What else frees a page meanwhile may let one attempt do its part: the wait begins anew.
        while "free disk space on the server; trying again in 2 s" not in worker.said:
            assert worker.ended is None, worker.said
            assert time.monotonic() < end, worker.said
            time.sleep(0.05)
        assert (followed(watching), lists(watching)) == (before, seen)
        ballast.unlink()
        with shop.database.connect(autocommit=True) as connection:
            while missing := COMMANDS["worker"].done(shop, connection):
                assert worker.ended is None, worker.said
                assert time.monotonic() < end, (missing, worker.said)
                time.sleep(0.05)
        worker.terminate()
        assert worker.wait() == 0
        assert "Traceback" not in worker.said
        assert again(shop, COMMANDS["precompute"]) == []


def test_a_full_disk_of_ours_is_one_line_too(shop: Shop) -> None:
    """Rejected rows are kept in a temporary file once they are many."""
    rejected = shop.folder / "rejected.csv"
    with rejected.open("w") as file:
        file.write("user_id,isbn,rating\n")
        file.writelines(f"{n},B{n},{'7' * 90}\n" for n in range(40_000))
    with small_disk(1) as disk:
        done = subprocess.run(
            [sys.executable, "-m", "tterec", "load", "--ratings", str(rejected)],
            env={**os.environ, "TMPDIR": str(disk), "TTEREC_DATABASE_URL": shop.database.url},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("Error: this computer's disk is full")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", COMMANDS.values(), ids=lambda one: one.name)
def test_no_statement_timeout_ends_what_takes_its_time(shop: Shop, command: Command) -> None:
    """Each waits for a lock for longer than a statement may take."""
    execute(
        shop.database,
        f"ALTER DATABASE {dbname(shop.database)} SET statement_timeout = '150ms'",
        f"ALTER DATABASE {dbname(shop.database)} SET idle_in_transaction_session_timeout = '150ms'",
    )
    options = "-c statement_timeout=0 -c idle_in_transaction_session_timeout=0"
    url = psycopg.conninfo.make_conninfo(shop.database.url, options=options)
    unhurried = Shop(Database(url), shop.folder)
    command.prepare(unhurried)
    with (
        command.instants[-1].hold(unhurried.database) as reached,
        unhurried.database.connect(autocommit=True) as watcher,
    ):
        process = run(unhurried, command, shop.database.url)
        while not reached(watcher, f"limits {command.name}"):
            assert process.ended is None, process.said
            time.sleep(0.01)
        time.sleep(0.5)
        assert process.ended is None, process.said
    assert process.wait(120) == 0, process.said
    with unhurried.database.connect() as connection:
        assert command.done(unhurried, connection) == []
    execute(unhurried.database, f"ALTER DATABASE {dbname(shop.database)} RESET ALL")


def test_a_recommendation_keeps_to_the_statement_timeout_and_says_so(shop: Shop) -> None:
    execute(
        shop.database, f"ALTER DATABASE {dbname(shop.database)} SET statement_timeout = '100ms'"
    )
    with shop.database.connect() as other, Recommender(shop.database) as recommender:
        assert len(recommender.recommend(1)) == 10
        other.execute("LOCK TABLE tterec.books")
        with pytest.raises(errors.DatabaseError, match="raise statement_timeout"):
            recommender.recommend(1)
        other.rollback()
        assert len(recommender.recommend(1)) == 10
    assert any("statement_timeout" in one for one in problems(shop.database))


@pytest.fixture
def limited(shop: Shop) -> Iterator[str]:
    """The URL of a role that may open one connection only, and owns what there is."""
    execute(
        shop.database,
        "CREATE ROLE limited LOGIN CONNECTION LIMIT 1 IN ROLE postgres",
    )
    yield psycopg.conninfo.make_conninfo(shop.database.url, user="limited")
    execute(
        shop.database,
        "REASSIGN OWNED BY limited TO postgres",
        "DROP OWNED BY limited",
        "DROP ROLE limited",
    )


def test_a_training_asks_for_its_second_connection_before_it_trains(
    shop: Shop, limited: str
) -> None:
    process = run(shop, COMMANDS["train"], limited)
    said_why(process, 'too many connections for role "limited"', "raise its CONNECTION LIMIT")
    assert "epoch" not in process.said
    assert len(pipeline.models_list(shop.database)) == 1
    assert any("connection" in one and "limited" in one for one in problems(Database(limited)))
    execute(shop.database, "ALTER ROLE limited CONNECTION LIMIT 5")
    assert problems(Database(limited)) == []
    assert run(shop, COMMANDS["train"], limited).wait(120) == 0


@pytest.mark.parametrize("name", ["load", "worker"])
def test_who_gets_no_connection_says_how_to_get_one(shop: Shop, limited: str, name: str) -> None:
    COMMANDS[name].prepare(shop)
    with psycopg.connect(limited):
        said_why(run(shop, COMMANDS[name], limited), "too many connections", "CONNECTION LIMIT")
    assert live(shop.database) == 1
    assert again(shop, COMMANDS[name]) == []


def test_the_doctor_sees_that_the_server_has_few_connections_left(shop: Shop, server: str) -> None:
    held = []
    try:
        with suppress(psycopg.OperationalError):
            while len(held) < 100:
                held.append(psycopg.connect(server))
        held.pop().close()
        time.sleep(0.2)
        assert any("max_connections" in one for one in problems(shop.database))
    finally:
        for connection in held:
            connection.close()


def test_a_killed_client_does_not_leave_its_statement_to_run_on(shop: Shop) -> None:
    """Nor what it has locked: it waits for a lock, as another would build an index for minutes."""
    COMMANDS["load"].prepare(shop)
    with (
        COMMANDS["load"].instants[1].hold(shop.database) as reached,
        shop.database.connect(autocommit=True) as watcher,
    ):
        process = run(shop, COMMANDS["load"])
        while not reached(watcher, "limits load"):
            assert process.ended is None, process.said
            time.sleep(0.01)
        process.kill()
        end = time.monotonic() + 20
        while sessions(watcher, "limits load"):
            assert time.monotonic() < end, "its session runs on"
            time.sleep(0.05)
    assert again(shop, COMMANDS["load"]) == []


def test_a_cancelled_statement_is_not_called_a_timeout(shop: Shop) -> None:
    COMMANDS["load"].prepare(shop)
    with (
        COMMANDS["load"].instants[1].hold(shop.database) as reached,
        shop.database.connect(autocommit=True) as watcher,
    ):
        process = run(shop, COMMANDS["load"])
        while not (pids := reached(watcher, "limits load")):
            assert process.ended is None, process.said
            time.sleep(0.01)
        watcher.execute("SELECT pg_cancel_backend(%s)", (pids[0],))
        said_why(process, "user request", "somebody has cancelled it; try again")
