"""The README's examples, run one after the other on a small bookshop.

A fenced block runs by its language: `sh` in bash, `sql` by a driver, `python` as a script. A block
that begins with a comment naming a file (`-- users.sql: …`) is written to that file instead. A
block after `<!-- not run: reason -->` is skipped. After `<!-- database: name -->` blocks run on
another database, for a reader who begins there has nothing of the chapters before.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from tterec.bookshop import open_bookshop
from tterec.database.connection import Database

README = Path(__file__).resolve().parents[2] / "README.md"
BLOCK = re.compile(
    r"^<!-- database: (?P<database>\w+) -->$"
    r"|^(?P<skipped><!-- not run: [^\n]*-->\n)?```(?P<language>\w+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
FILE = re.compile(r"(?:--|#) (?P<name>[\w.]+\.(?:sql|toml))\b")

# The tables of the README's cinema, which the reader is to have.
CINEMA = """
CREATE SCHEMA cinema;
CREATE TABLE cinema.members (member text PRIMARY KEY, birth_year int, city text, newsletter bool);
CREATE TABLE cinema.films (film text PRIMARY KEY, title text, director text, genres text[],
                           released date);
CREATE TABLE cinema.visits (member text, film text, stars int, seen_at timestamptz,
                            PRIMARY KEY (member, film));
INSERT INTO cinema.members
SELECT CASE n WHEN 0 THEN 'ada@example.org' ELSE 'm' || n || '@example.org' END, 1950 + n % 50,
       'city ' || n % 7, n % 3 = 0
FROM generate_series(0, 99) n;
INSERT INTO cinema.films
SELECT 'f' || n, 'Film ' || n, 'director ' || n % 9, ARRAY['genre ' || n % 4],
       '2000-01-01'::date + n
FROM generate_series(0, 59) n;
INSERT INTO cinema.visits
SELECT member, film, 1 + (hashtext(member || film) & 3), '2024-01-01'::timestamptz
FROM cinema.members, cinema.films
WHERE hashtext(film || member) % 5 = 0 AND film <> 'f0';
"""


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, where it stands, and on which database it runs."""

    language: str
    text: str
    line: int
    skipped: bool = False
    database: str = "bookshop"


def blocks(text: str) -> Iterator[Block]:
    database = Block.database
    for match in BLOCK.finditer(text):
        database = match["database"] or database
        if match["language"] is not None:
            line = text.count("\n", 0, match.start()) + 1
            skipped = match["skipped"] is not None
            yield Block(match["language"], match["text"], line, skipped, database)


@pytest.fixture
def databases(database: Database, empty_database: Database) -> dict[str, Database]:
    """The databases that the README's examples run on, by name."""
    with empty_database.connect() as connection:
        connection.execute(CINEMA.encode())
    return {"bookshop": database, "cinema": empty_database}


@pytest.fixture
def workshop(tmp_path: Path) -> Path:
    """A directory with the three CSV files and a `tterec` command."""
    open_bookshop(0, users=300, books=300).write_csv(tmp_path)
    command = tmp_path / "bin" / "tterec"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tterec "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    return tmp_path


def run(block: Block, database: Database, folder: Path) -> None:
    """Run a block as a reader would. Raises if it fails."""
    named = FILE.match(block.text)
    if named is not None:
        (folder / named["name"]).write_text(block.text, encoding="utf-8")
    elif block.language == "sql":
        with psycopg.connect(database.url, autocommit=True) as connection:
            connection.execute(block.text.encode())
    else:
        program = {"sh": ["bash", "-e", "-c"], "python": [sys.executable, "-c"]}[block.language]
        variables = os.environ | {
            "TTEREC_DATABASE_URL": database.url,
            "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        }
        done = subprocess.run(
            [*program, block.text],
            cwd=folder,
            env=variables,
            capture_output=True,
            encoding="utf-8",
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_example_works(databases: dict[str, Database], workshop: Path) -> None:
    ran = set()
    for block in blocks(README.read_text(encoding="utf-8")):
        if block.skipped or block.language == "text":
            continue
        if re.match("psql ", block.text) and shutil.which("psql") is None:
            continue
        try:
            run(block, databases[block.database], workshop)
        except Exception as error:
            pytest.fail(f"README.md, line {block.line}:\n{block.text}\n{error}")
        ran.add(block.language)
    assert ran == {"sh", "sql", "python", "toml"}


def test_a_failing_example_is_noticed(database: Database, workshop: Path) -> None:
    for language, text in [("sh", "false | true\nfalse"), ("python", "1 / 0"), ("sql", "SELECT x")]:
        with pytest.raises((AssertionError, psycopg.Error)):
            run(Block(language, text, 1), database, workshop)


def test_links_lead_somewhere() -> None:
    text = README.read_text(encoding="utf-8")
    headings = {
        re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    }
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("#"):
            assert target[1:] in headings, target
        else:
            assert (README.parent / target).exists(), target
