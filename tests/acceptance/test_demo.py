"""`tterec demo`, as a newcomer meets it: nothing configured, the embedded server, twice."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from tterec.bookshop import Bookshop, open_bookshop
from tterec.database.connection import Database


@dataclass(frozen=True)
class Newcomer:
    """Somebody with a home directory, and what the first demo there printed."""

    home: Path
    first: subprocess.CompletedProcess[str]

    def url(self) -> str:
        """The URL that the demo told them to export."""
        found = re.search(r"export TTEREC_DATABASE_URL='(.*)'", self.first.stdout)
        assert found is not None, self.first.stdout
        return found[1]


def environment(home: Path) -> dict[str, str]:
    strange = ("DATABASE_URL", "TTEREC_DATABASE_URL", "PYTHONPATH")
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in strange and not name.startswith("PG")
    }
    return kept | {"TTEREC_HOME": str(home), "COLUMNS": "100", "PYTHONUTF8": "1"}


def tterec(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tterec", *arguments],
        env=environment(home),
        cwd=home.parent,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


@pytest.fixture(scope="module")
def newcomer() -> Iterator[Newcomer]:
    # Not pytest's tmp_path: a socket's path may have 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="tterec-"))
    folder.chmod(0o755)  # as root, the server runs as another user
    home = folder / "home"
    try:
        first = tterec(home, "demo")
        yield Newcomer(home, first)
    finally:
        tterec(home, "db", "stop")
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def shop() -> Bookshop:
    return open_bookshop(0)


def test_it_ends_well(newcomer: Newcomer) -> None:
    assert newcomer.first.returncode == 0, newcomer.first.stderr


def test_a_readers_past_stands_beside_ten_books(newcomer: Newcomer, shop: Bookshop) -> None:
    guest = shop.guest()
    page = newcomer.first.stdout
    assert f"Reader {guest}, " in page
    start = re.compile(r"^.{51} *(\d+) (\S.*)$", re.MULTILINE)
    assert [int(rank) for rank, _ in start.findall(page)] == list(range(1, 11))
    for place in shop.shelves[guest]:
        assert shop.books[place].title[:20] in page


def test_stages_are_timed_on_stderr_without_bars(newcomer: Newcomer) -> None:
    for stage in ("Postgres", "Schema", "Bookshop", "Load", "Train and publish", "Recommend"):
        assert re.search(rf"^{stage}\.+\d+\.\d s$", newcomer.first.stderr, re.MULTILINE), stage
    for text in (newcomer.first.stdout, newcomer.first.stderr):
        assert not re.search(r"[\x00-\x08\x0b-\x1f\u2500-\u257f]", text)


def test_the_server_stays(newcomer: Newcomer) -> None:
    assert "running" in tterec(newcomer.home, "db", "status").stdout
    with psycopg.connect(newcomer.url()) as connection:
        assert connection.info.dbname == "tterec_demo"


def test_readers_of_volumes_1_to_3_get_volume_4(newcomer: Newcomer, shop: Bookshop) -> None:
    placed: dict[int, list[bool]] = {}
    sources = set()
    with psycopg.connect(newcomer.url()) as connection:
        for user_id, book in shop.waiting_for_volume_four():
            rows = connection.execute(
                "SELECT isbn, source FROM tterec.recommend(%s)", (user_id,)
            ).fetchall()
            sources |= {source for _, source in rows}
            placed.setdefault(user_id, []).append(book.isbn in {isbn for isbn, _ in rows})
    assert sources == {"history"}
    everyone = [place for places in placed.values() for place in places]
    few = [
        place
        for user_id, places in placed.items()
        for place in places
        if len(shop.shelves[user_id]) <= 25
    ]
    assert placed[shop.guest()] == [True]
    # Three books of a hundred say less about a reader than three of a dozen.
    assert len(few) > 300
    assert sum(few) >= 0.96 * len(few)
    assert sum(everyone) >= 0.94 * len(everyone)


def test_what_to_type_next_can_be_typed(newcomer: Newcomer) -> None:
    _, _, after = newcomer.first.stdout.partition("What to type next\n")
    typed = after.split("\n\n", maxsplit=1)[0].splitlines()
    assert len(typed) == 4
    if shutil.which("psql") is None:
        typed = [line for line in typed if "psql" not in line]
    folder = newcomer.home.parent / "bin"
    folder.mkdir(exist_ok=True)
    command = folder / "tterec"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tterec "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    variables = environment(newcomer.home)
    variables["PATH"] = f"{folder}{os.pathsep}{variables['PATH']}"
    done = subprocess.run(
        ["bash", "-e", "-c", "\n".join(typed)],
        env=variables,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") > 20


def test_a_second_demo_adds_nothing_but_a_generation(newcomer: Newcomer) -> None:
    counts = (
        "SELECT (SELECT count(*) FROM tterec.users), (SELECT count(*) FROM tterec.books),"
        " (SELECT count(*) FROM tterec.ratings), (SELECT count(*) FROM tterec.rejected_rows),"
        " (SELECT max(generation) FROM tterec.models WHERE status = 'ready')"
    )
    with psycopg.connect(newcomer.url()) as connection:
        before = connection.execute(counts).fetchone()
    second = tterec(newcomer.home, "demo")
    assert second.returncode == 0, second.stderr
    with psycopg.connect(newcomer.url()) as connection:
        after = connection.execute(counts).fetchone()
    assert before is not None
    assert after is not None
    assert after[:4] == before[:4]
    assert after[4] == before[4] + 1
    # The same data and seed teach the same towers.
    assert second.stdout == newcomer.first.stdout


def test_your_own_database_stays_apart(newcomer: Newcomer) -> None:
    url = tterec(newcomer.home, "db", "url").stdout.strip()
    with psycopg.connect(url) as connection:
        assert connection.info.dbname == "tterec"
        row = connection.execute("SELECT to_regnamespace('tterec')").fetchone()
    assert row == (None,)


def test_a_database_with_data_of_yours_is_refused(newcomer: Newcomer, database: Database) -> None:
    with database.connect() as connection:
        connection.execute("INSERT INTO tterec.books (isbn) VALUES ('9790000000000')")
    done = tterec(newcomer.home, "demo", "--database-url", database.url)
    assert done.returncode == 1
    assert re.search(r"^Error: .*holds data of yours.*--database-url URL$", done.stderr, re.M)
    with database.connect() as connection:
        assert connection.execute("SELECT count(*) FROM tterec.users").fetchone() == (0,)


def test_another_bookshop_is_refused(newcomer: Newcomer) -> None:
    done = tterec(newcomer.home, "demo", "--seed", "1", "--database-url", newcomer.url())
    assert done.returncode == 1
    assert re.search(r"^Error: .*another bookshop", done.stderr, re.MULTILINE)


def test_db_stop_ends_the_server(newcomer: Newcomer) -> None:
    assert tterec(newcomer.home, "db", "stop").returncode == 0
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(newcomer.url()).close()
