"""What Windows and macOS would see, as far as Linux can show it: consoles and pipes that are not
Unicode, and a Python without what only Unix, or only Linux, has."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.generations import plant, random_vectors
from tterec.bookshop import open_bookshop
from tterec.database.connection import Database

TITLE, ISBN = "Łódź “é” 本\nжю", "książka"

# What Linux has and they have not: of `os`, of `signal`, and modules.
MISSING = {
    "darwin": ("sched_getaffinity posix_fallocate posix_fadvise", "", ""),
    "win32": (
        "fork geteuid getuid getegid getgid chown sched_getaffinity posix_fallocate killpg setsid"
        " getpgid mkfifo uname nice sysconf pread O_CLOEXEC O_NOFOLLOW O_NONBLOCK",
        "SIGHUP SIGALRM SIGKILL SIGSTOP SIGPIPE SIGQUIT SIGUSR1 setitimer ITIMER_REAL alarm"
        " pthread_sigmask",
        "pwd grp resource fcntl termios",
    ),
}
# What is imported before these go is Python's own and others': how that gets along on other
# systems is their matter.
AS_ELSEWHERE = """
import os, signal, subprocess, sys, tempfile
import alembic.command, click, fasteners, numpy, platformdirs, psutil, psycopg, rich.console
import scipy.sparse, sqlalchemy.dialects.postgresql.psycopg, torch.distributed
of_os, of_signal, modules = {missing!r}
for module, names in ((os, of_os), (signal, of_signal)):
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
sys.modules.update(dict.fromkeys(modules.split()))
if {platform!r} == "win32":
    tempfile.TemporaryFile = tempfile.NamedTemporaryFile  # as it is there
sys.platform = {platform!r}
from tterec import arrays
from tterec.cli import main
arrays.SHARE = 2**60  # arrays lie in files
for command in {commands!r}:
    sys.stderr.write("== " + " ".join(command) + "\\n")
    try:
        main(command)
    except SystemExit as ended:
        assert not ended.code, ended.code
"""


@pytest.fixture
def shop(database: Database) -> Database:
    """Three books with a title and an ISBN that few code pages can write, and a live generation."""
    with database.connect() as connection:
        for number in range(3):
            connection.execute(
                "INSERT INTO tterec.books (isbn, title) VALUES (%s, %s)",
                (f"{ISBN}{number}", f"{TITLE}{number}"),
            )
        connection.execute("INSERT INTO tterec.users (user_id) VALUES (1)")
        plant(connection, random_vectors([1, 2, 3], [1], dim=4))
    return database


def tterec(
    *arguments: str, url: str, encoding: str, home: Path | None = None
) -> subprocess.CompletedProcess[bytes]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
    environment |= {"TTEREC_DATABASE_URL": url, "PYTHONIOENCODING": encoding}
    if home is not None:
        environment["TTEREC_HOME"] = str(home)
    done = subprocess.run(
        [sys.executable, "-m", "tterec", *arguments],
        env=environment,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.parametrize("encoding", ["cp1252", "cp437", "ascii"])
def test_what_a_console_cannot_show_keeps_no_command_from_the_rest(
    shop: Database, encoding: str, tmp_path: Path
) -> None:
    home = tmp_path / "Łukasz"
    for command in (["config", "show"], ["recommend", "1"], ["similar", f"{ISBN}0"]):
        done = tterec(*command, url=shop.url, encoding=encoding, home=home)
        assert b"?" in done.stdout
    found = tterec("recommend", "1", "--format", "json", url=shop.url, encoding=encoding)
    assert {one["title"][:-1] for one in json.loads(found.stdout)} == {TITLE}


def test_csv_has_the_same_bytes_in_a_pipe_as_in_a_file(shop: Database, tmp_path: Path) -> None:
    for command in (["recommend", "1", "--format", "csv"], ["recommend", "--all"]):
        path = tmp_path / "lists.csv"
        tterec(*command, "-o", str(path), url=shop.url, encoding="cp1252")
        piped = tterec(*command, url=shop.url, encoding="cp1252").stdout
        assert piped == path.read_bytes()
        rows = list(csv.DictReader(piped.decode().splitlines(keepends=True)))
        assert {row["isbn"][:-1] for row in rows} == {ISBN}
        assert len(rows) == 3


@pytest.mark.parametrize("encoding", ["cp1251", "utf-8"])
def test_logged_objects_are_json_in_every_encoding(shop: Database, encoding: str) -> None:
    with shop.connect() as connection:
        connection.execute("INSERT INTO tterec.books (isbn) VALUES ('Ł\U0001f600é')")
    done = tterec(
        "--log-format", "json", "similar", "Ł\U0001f600é", url=shop.url, encoding=encoding
    )
    said = [json.loads(line) for line in done.stderr.splitlines()]
    assert any("Ł\U0001f600é has no vector" in one.get("message", "") for one in said)


@pytest.mark.skipif(sys.platform != "linux", reason="takes away what only Linux has")
@pytest.mark.parametrize("platform", MISSING)
def test_the_way_from_files_to_lists_needs_nothing_that_is_only_here(
    database: Database, platform: str, tmp_path: Path
) -> None:
    users, books, ratings = open_bookshop(0, users=150, books=300).write_csv(tmp_path)
    commands = [
        ["load", "--users", str(users), "--books", str(books), "--ratings", str(ratings)],
        ["train", "--epochs", "1", "--dim", "8"],
        ["recommend", "1"],
        ["recommend", "--all", "-o", str(tmp_path / "lists.csv")],
        ["update"],
        ["doctor"],
        ["config", "show"],
    ]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
    environment |= {"TTEREC_DATABASE_URL": database.url, "TTEREC_HOME": str(tmp_path / "home")}
    environment.pop("TMPDIR", None)
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            AS_ELSEWHERE.format(missing=MISSING[platform], platform=platform, commands=commands),
        ],
        env=environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with (tmp_path / "lists.csv").open(encoding="utf-8", newline="") as file:
        assert len({row["user_id"] for row in csv.DictReader(file)}) == 150
    assert list((tmp_path / "home" / "cache").iterdir()) == []
