"""Files that nobody should load: refused in one line, or every record accounted for."""

from __future__ import annotations

import gzip
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.benchmarks import fuzz
from tterec import errors, pipeline
from tterec.database.connection import Database
from tterec.store.load_summary import LoadSummary

USERS = b"User-ID,Location,Age\n"
RATINGS = b"User-ID,ISBN,Book-Rating\n"
RIGHT = b"7,paris,30\n"


def load(database: Database, path: Path, content: bytes, kind: str = "users") -> LoadSummary:
    path.write_bytes(content)
    return pipeline.load(database, **{kind: path})  # type: ignore[arg-type]


def users(database: Database) -> list[tuple[object, ...]]:
    with database.connect() as connection:
        return connection.execute(
            "SELECT user_id, location, age FROM tterec.users ORDER BY user_id"
        ).fetchall()


def bomb() -> bytes:
    """A gzip of 80 MB, in 80 KB."""
    return gzip.compress(USERS + (b"1," + b"a" * 10_000 + b",3\n") * 8_000, 9)


def test_hundreds_of_files_made_up_to_break_a_loader(database: Database) -> None:
    outcomes = fuzz.fuzz(database, 200, seed=0)
    assert outcomes["loaded"] > 50
    assert outcomes["refused"] > 50


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\n\r\n \n", "nothing but blank lines"),
        (b"a,b\n1,2\n", "needs the columns User-ID"),
        (b"User-ID,user_id\n1,2\n", "two columns for user_id"),
        (USERS.replace(b"\n", b"\r") + b"1,a,3\r2,b,4\r", "carriage returns alone"),
        (("User-ID\n1\n").encode("utf-16"), "is UTF-16"),
        (("User-ID\n1\n").encode("utf-16-le"), "not a users file"),
        (("User-ID\n1\n").encode("utf-32-be"), "not a users file"),
        (b"\0" * 100, "not a users file"),
        (random.Random(0).randbytes(3_000_000).replace(b"\n", b""), "first line has no end"),
        (b"PK\x03\x04" + USERS, "zip archive"),
        (gzip.compress(USERS + RIGHT * 1000, mtime=0)[:-20], "broken gzip"),
        (gzip.compress(USERS + RIGHT, mtime=0) + b"rubbish", "broken gzip"),
        (b"\x1f\x8b", "broken gzip"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_hopeless_file_is_refused_in_one_line(
    database: Database, tmp_path: Path, content: bytes, said: str
) -> None:
    with pytest.raises(errors.LoadError, match=said) as caught:
        load(database, tmp_path / "users.csv", content)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 600
    assert users(database) == []


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (b"1,a\0b,3", "NUL byte"),
        (b"1,a,3,4", "wrong number of fields"),
        (b'1,"a,3', "quote that is never closed"),
        (b"9223372036854775808,a,3", "user id is out of range"),
        (b"1" * 5000 + b",a,3", "user id is out of range"),
        ("١٢٣,a,3".encode(), "user id is not an integer"),
        (b"1e3,a,3", "user id is not an integer"),
        (b"nan,a,3", "user id is not an integer"),
        (b",a,3", "no user id"),
        (b"1," + b"x" * 2_000_000 + b",3", "longer than 1 MiB"),
    ],
)
def test_a_hopeless_record_costs_itself_and_no_other(
    database: Database, tmp_path: Path, record: bytes, reason: str
) -> None:
    summary = load(database, tmp_path / "users.csv", USERS + RIGHT + record + b"\n8,rome,31\n")
    assert summary.rejected == {reason: 1}
    assert summary.files[0].records == 3
    assert users(database) == [(7, "paris", 30), (8, "rome", 31)]


@pytest.mark.parametrize(
    "number", ["nan", "NaN", "inf", "-Infinity", "1e400", "-1", "11", "\u0665", "0x1"]
)
def test_a_rating_that_is_no_number_from_0_to_10_is_rejected(
    database: Database, tmp_path: Path, number: str
) -> None:
    content = RATINGS + f"1,A,{number}\n2,B,7\n".encode()
    summary = load(database, tmp_path / "ratings.csv", content, "ratings")
    assert sum(summary.rejected.values()) == 1
    with database.connect() as connection:
        found = connection.execute("SELECT user_id, rating FROM tterec.ratings").fetchall()
    assert found == [(2, 7.0)]


@pytest.mark.parametrize(
    "text",
    [
        "=cmd|' /C calc'!A0",
        "'; DROP TABLE tterec.users; --",
        "\\. and \\N",
        "%s %(x)s {} $1 $$",
        "\x1b[2J\u202e",
        "İstanbul \U0001f600 e\u0301",
        'a "quoted" word',
        "a\tb\rc",
    ],
)
def test_a_text_comes_through_as_it_is(database: Database, tmp_path: Path, text: str) -> None:
    quoted = text.replace('"', '""')
    load(database, tmp_path / "users.csv", USERS + f'7,"{quoted}",1e400\n'.encode())
    assert users(database) == [(7, text, None)]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "latin-1"])
def test_encodings_that_spreadsheets_write_are_read(
    database: Database, tmp_path: Path, encoding: str
) -> None:
    load(database, tmp_path / "users.csv", "User-ID,Location,Age\n7,Köln,30\n".encode(encoding))
    assert users(database) == [(7, "Köln", 30)]


def test_lines_of_two_encodings_are_both_read(database: Database, tmp_path: Path) -> None:
    lines = ["7,Köln,30\n".encode(), "8,Zürich,31\n".encode(), "9,Århus,32\n".encode("latin-1")]
    summary = load(database, tmp_path / "users.csv", USERS + b"".join(lines))
    assert users(database) == [(7, "Köln", 30), (8, "Zürich", 31), (9, "Århus", 32)]
    assert summary.files[0].records == 3


def test_a_header_alone_loads_nothing(database: Database, tmp_path: Path) -> None:
    assert load(database, tmp_path / "users.csv", USERS).files[0].records == 0


def test_ten_thousand_columns_are_ignored_in_a_short_line(
    database: Database, tmp_path: Path
) -> None:
    header = ["User-ID", *(f"\x1b[{i}m" for i in range(10_000))]
    rows = [",".join(header), ",".join(["7", *["x"] * 10_000])]
    path = tmp_path / "users.csv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    said: list[str] = []
    pipeline.load(database, users=path, progress=lambda step: said.append(step.message or ""))
    assert users(database) == [(7, None, None)]
    assert max(map(len, said)) < 400
    assert "9,980 more" in "".join(said)
    assert "\x1b" not in "".join(said)


def test_a_line_of_a_hundred_megabytes_costs_itself(database: Database, tmp_path: Path) -> None:
    path = tmp_path / "users.csv"
    with path.open("wb") as file:
        file.write(USERS + RIGHT + b"1,")
        for _ in range(100):
            file.write(b"x" * 1_000_000)
        file.write(b",3\n8,rome,31\n")
    summary = pipeline.load(database, users=path)
    assert summary.rejected == {"longer than 1 MiB": 1}
    assert users(database) == [(7, "paris", 30), (8, "rome", 31)]
    with database.connect() as connection:
        row = connection.execute("SELECT length(raw) FROM tterec.rejected_rows").fetchone()
    assert row is not None
    assert row[0] < 20_000


def test_a_gzip_bomb_is_refused_with_what_to_do(database: Database, tmp_path: Path) -> None:
    content = bomb()
    assert len(content) < 200_000
    with pytest.raises(errors.LoadError, match="unpack it with gunzip"):
        load(database, tmp_path / "users.csv.gz", content)
    assert users(database) == []


def test_what_is_no_file_is_refused_or_read(database: Database, tmp_path: Path) -> None:
    with pytest.raises(errors.LoadError, match="is a directory; name the file"):
        pipeline.load(database, users=tmp_path)
    with pytest.raises(errors.LoadError, match="cannot read"):
        pipeline.load(database, users=Path("/proc/self/mem"))
    with pytest.raises(errors.LoadError, match="first line has no end"):
        pipeline.load(database, users=Path("/dev/zero"))
    with pytest.raises(errors.LoadError, match="is empty"):
        pipeline.load(database, users=Path("/dev/null"))
    fifo = tmp_path / "pipe"
    os.mkfifo(fifo)
    writer = threading.Thread(target=lambda: fifo.write_bytes(USERS + RIGHT))
    writer.start()
    pipeline.load(database, users=fifo)
    writer.join()
    assert users(database) == [(7, "paris", 30)]


def _mode_0(path: Path) -> None:
    path.write_bytes(USERS)
    path.chmod(0)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("no\nsuch\x1b[2Jfile.csv", lambda _: None),
        ("two\nlines.csv", lambda path: path.write_bytes(b"a,b\n")),
        ("shut.csv", _mode_0),
        ("'; DROP TABLE tterec.users; --.csv", lambda path: path.write_bytes(b"")),
    ],
)
def test_the_command_says_one_line_whatever_the_file_is_called(
    database: Database, tmp_path: Path, name: str, make: Callable[[Path], object]
) -> None:
    path = tmp_path / name
    make(path)
    if name == "shut.csv" and os.geteuid() == 0:
        pytest.skip("root may read everything")
    done = subprocess.run(
        [sys.executable, "-m", "tterec", "--database-url", database.url, "load", "--users", path],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("Error: ")
    assert "\x1b" not in done.stderr


def test_a_rejected_row_of_a_file_with_an_odd_name_is_kept(
    database: Database, tmp_path: Path
) -> None:
    name = "'; DROP TABLE tterec.users; -- %s \\N\t\U0001f600.csv"
    load(database, tmp_path / name, USERS + b"x,y,z\n")
    with database.connect() as connection:
        row = connection.execute("SELECT file, raw FROM tterec.rejected_rows").fetchone()
    assert row == (name, "x,y,z")
