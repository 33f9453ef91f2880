"""One real Postgres a test session; every test that asks gets a database of its own."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import psycopg
import pytest

from tterec import config, pipeline
from tterec.database import embedded, system_user
from tterec.database.cluster import Cluster
from tterec.database.connection import Database

# A shell's background job starts with Ctrl-C ignored, and so would the commands that tests stop.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):  # and with nohup, SIGHUP
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

_NAMES = count(1)


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The libpq URL of a fresh server's maintenance database, as superuser."""
    # Not pytest's tmp_path: a socket's path may have 107 characters, and as root the server runs
    # as another user, who cannot pass pytest's directories.
    folder = Path(tempfile.mkdtemp(prefix="tterec-test-"))
    system_user.open_home(folder)
    cluster = Cluster(folder)
    cluster.create()
    with (cluster.directory / "postgresql.conf").open("a", encoding="utf-8") as file:
        file.write("fsync = off\nfull_page_writes = off\nmax_connections = 60\n")
    yield cluster.start().url("postgres")
    cluster.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A fresh TTEREC_HOME; its server, should the test start it, is stopped afterwards.

    Nothing in the environment names another database.
    """
    folder = Path(tempfile.mkdtemp(prefix="tterec-"))
    forget_databases(monkeypatch)
    monkeypatch.setenv(config.HOME_VARIABLE, str(folder))
    yield folder
    monkeypatch.setenv(config.HOME_VARIABLE, str(folder))
    embedded.stop()
    shutil.rmtree(folder, ignore_errors=True)


def forget_databases(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take every variable that names a database out of the environment."""
    for name in os.environ:
        if name in config.URL_VARIABLES or name.startswith("PG"):
            monkeypatch.delenv(name)


def url_of(server: str, name: str) -> str:
    """The URL of another database on the same server."""
    return server.replace("/postgres?", f"/{name}?")


def create_database(server: str, template: str | None = None, tablespace: str | None = None) -> str:
    """Create a database, empty or as a copy, perhaps in a tablespace; return its name."""
    name = f"test_{next(_NAMES)}"
    with psycopg.connect(server, autocommit=True) as connection:
        copied = f" TEMPLATE {template}" if template else ""
        placed = f" TABLESPACE {tablespace}" if tablespace else ""
        connection.execute(f"CREATE DATABASE {name}{copied}{placed}".encode())
    return name


@pytest.fixture(scope="session")
def template(server: str) -> str:
    """The name of a database with the current schema, to be copied."""
    name = create_database(server)
    pipeline.upgrade(Database(url_of(server, name)))
    return name


@pytest.fixture
def empty_database(server: str) -> Iterator[Database]:
    """A database without tterec's schema."""
    name = create_database(server)
    yield Database(url_of(server, name))
    _drop(server, name)


@pytest.fixture
def database(server: str, template: str) -> Iterator[Database]:
    """A database with the current schema and no data."""
    name = create_database(server, template)
    yield Database(url_of(server, name))
    _drop(server, name)


def _drop(server: str, name: str) -> None:
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)".encode())


@pytest.fixture(scope="session")
def book_crossing() -> Path:
    """The folder with the real Book-Crossing files; skips where there is none."""
    folder = Path(
        os.environ.get(
            "TTEREC_BOOK_CROSSING",
            Path(__file__).resolve().parents[2] / "shared" / "data" / "book-crossing",
        )
    )
    if not (folder / "Ratings.csv.gz").is_file():
        pytest.skip("no Book-Crossing files; name their folder in TTEREC_BOOK_CROSSING")
    return folder
