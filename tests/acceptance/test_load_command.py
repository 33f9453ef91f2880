"""`tterec load` as a user runs it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from tterec.database.connection import Database

RATINGS = "User-ID,ISBN,Book-Rating\n1,A,8\n1,B,0\n2,a,11\n"

# Runs the command, then prints the peak memory in KiB. Not getrusage where /proc has the figure:
# there a process inherits the peak of the one that started it.
MEASURED = """
import sys
from pathlib import Path
from tterec.cli import main
try:
    main()
finally:
    status = Path("/proc/self/status")
    if status.exists():
        peak = int(status.read_text().split("VmHWM:")[1].split()[0])
    elif sys.platform == "win32":
        peak = 0
    else:
        import resource
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(peak, file=sys.stderr)
"""


def tterec(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tterec", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        **options,  # type: ignore[call-overload]
    )


@pytest.fixture
def ratings(tmp_path: Path) -> Path:
    path = tmp_path / "Ratings.csv"
    path.write_text(RATINGS)
    return path


def test_the_summary_goes_to_stdout_and_adds_up(database: Database, ratings: Path) -> None:
    done = tterec("load", "--ratings", ratings, "--database-url", database.url)
    assert (done.returncode, done.stderr) == (0, "")
    assert "Ratings.csv: 3 records = 2 accepted + 1 rejected + 0 merged" in done.stdout
    assert "rating is outside 0 to 10" in done.stdout
    assert "Known only from ratings: 2 books, 1 users" in done.stdout
    again = tterec("--database-url", database.url, "load", "--ratings", ratings)
    assert again.returncode == 0
    assert "0 changed" in again.stdout


def test_strict_stops_with_one_line(database: Database, ratings: Path) -> None:
    done = tterec("load", "--ratings", ratings, "--strict", "--database-url", database.url)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "Ratings.csv, line 2: " in done.stderr


@pytest.mark.parametrize("broken", ["missing.csv", ".", "empty.csv", "users.csv", "short.csv.gz"])
def test_a_file_that_cannot_be_loaded_is_one_line(
    database: Database, tmp_path: Path, broken: str
) -> None:
    (tmp_path / "empty.csv").touch()
    (tmp_path / "users.csv").write_text("User-ID,Location,Age\n")
    (tmp_path / "short.csv.gz").write_bytes(b"\x1f\x8b\x08\x00")
    done = tterec("load", "--ratings", tmp_path / broken, "--database-url", database.url)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1


def test_a_load_of_nothing_is_wrong_usage() -> None:
    done = tterec("load")
    assert done.returncode == 2
    assert "--ratings" in done.stderr


def test_without_schema_the_command_to_run_is_named(
    empty_database: Database, ratings: Path
) -> None:
    done = tterec("load", "--ratings", ratings, "--database-url", empty_database.url)
    assert done.returncode == 1
    assert "run: tterec db upgrade" in done.stderr


def test_help_shows_an_example() -> None:
    done = tterec("load", "--help")
    assert done.returncode == 0
    assert "tterec load --users Users.csv" in done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_a_terminal_shows_a_bar(database: Database, tmp_path: Path) -> None:
    import pty

    path = tmp_path / "Many.csv"
    # Read in a second: a bar is drawn ten times in one.
    lines = "".join(f"{n % 5_000},B{n // 5_000},5,x\n" for n in range(500_000))
    path.write_text(f"user_id,isbn,rating,extra\n{lines}")
    master, terminal = pty.openpty()
    command = [sys.executable, "-m", "tterec", "load", "--ratings", str(path)]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(
        [*command, "--database-url", database.url],
        stdout=subprocess.PIPE,
        stderr=terminal,
        env=environment,
    ) as process:
        os.close(terminal)
        shown = b""
        while True:
            try:
                block = os.read(master, 65536)
            except OSError:  # the other end was closed
                break
            if not block:
                break
            shown += block
        assert process.stdout is not None
        summary = process.stdout.read().decode()
    os.close(master)
    assert process.returncode == 0
    plain = re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", shown).decode()
    assert "Many.csv: ignoring extra" in plain
    assert re.search(r"Many\.csv +\S+ +[0-9.]+[kM]/[0-9.]+M", plain)
    assert "Many.csv: 500,000 records" in summary


@pytest.mark.skipif(sys.platform == "win32", reason="no getrusage")
def test_memory_does_not_grow_with_the_file(database: Database, tmp_path: Path) -> None:
    def peak(count: int) -> int:
        path = tmp_path / f"{count}.csv"
        with path.open("w", encoding="utf-8") as file:
            file.write("User-ID,Location,Age\n")
            for n in range(count):
                # One in ten is mended, one in ten rejected: both must be streamed too.
                age = (30, 31, 32, 33, 34, 35, 36, 37, 244, "37,")[n % 10]
                file.write(f'{n},"a place, somewhere in the {n}th of many countries, é",{age}\n')
        done = subprocess.run(
            [sys.executable, "-c", MEASURED, "load", "--users", str(path)],
            env={**os.environ, "TTEREC_DATABASE_URL": database.url},
            capture_output=True,
            text=True,
            check=True,
            timeout=300,
        )
        assert f"{count:,} records" in done.stdout
        return int(done.stderr.splitlines()[-1])

    small, large = peak(20_000), peak(160_000)  # 1.2 and 10 MB
    assert small > 10 * 1024  # it was measured
    assert large - small < 4 * 1024


@pytest.mark.skipif(sys.platform == "win32", reason="no getrusage")
@pytest.mark.parametrize("packed", [False, True])
def test_a_line_of_64_megabytes_takes_little_memory(
    database: Database, tmp_path: Path, packed: bool
) -> None:
    """Plain it is rejected, and its neighbours are loaded; packed, the file is a bomb."""
    import gzip

    path = tmp_path / "Users.csv"
    with gzip.open(path, "wb", compresslevel=1) if packed else path.open("wb") as file:
        file.write(b"user_id,location\n1,here\n2,")
        for _ in range(64):
            file.write(b"x" * 2**20)
        file.write(b"\n3,there\n")
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, "load", "--users", str(path)],
        env={**os.environ, "TTEREC_DATABASE_URL": database.url},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert int(done.stderr.splitlines()[-1]) < 200 * 1024
    with psycopg.connect(database.url) as connection:
        found = connection.execute(
            "SELECT line, reason, length(raw) FROM tterec.rejected_rows"
        ).fetchall()
    if packed:
        assert "unpack it with gunzip" in done.stderr
        assert found == []
    else:
        assert "3 records = 2 accepted + 1 rejected" in done.stdout
        assert found == [(3, "longer than 1 MiB", 10_000)]
