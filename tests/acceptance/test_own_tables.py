"""A shop with its own tables and text ids, by the command line and three files of SQL."""

from __future__ import annotations

import csv
import io
import json
from collections import defaultdict
from pathlib import Path

import psycopg
import pytest

from tests.acceptance.test_train_command import SMALL, tterec
from tests.integration import record_club
from tterec.database.connection import Database


@pytest.fixture
def club(database: Database) -> Database:
    """A database with the record club's tables."""
    with database.connect() as connection:
        record_club.plant(connection)
    return database


def flags(folder: Path) -> list[object]:
    """The options of `tterec train` that name the three files."""
    files = record_club.write_queries(folder)
    return [part for name, path in files.items() for part in (f"--{name}-sql", path)]


def played(database: Database) -> dict[str, set[str]]:
    """The records that each member has played."""
    found = defaultdict(set)
    with psycopg.connect(database.url) as connection:
        for handle, code in connection.execute("SELECT handle, code FROM club.plays"):
            found[handle].add(code)
    return found


def test_the_whole_way_with_three_queries(club: Database, tmp_path: Path) -> None:
    url = ("--database-url", club.url)
    settings = tmp_path / "train.toml"
    settings.write_text("dim = 16\nepochs = 6\nbatch_size = 128\nuniform_negatives = 16\n")
    done = tterec("train", "--config", settings, *flags(tmp_path), *url)
    assert done.returncode == 0, done.stderr
    assert "of 121 users with 80 items" in done.stdout
    assert "1 of " in done.stderr  # the interaction with a record that was withdrawn

    genres = record_club.genres()
    for number in (0, 1, 2, 7):
        user = record_club.member(number)
        shown = tterec("recommend", user, "-k", 10, "--format", "json", *url)
        assert shown.returncode == 0, shown.stderr
        found = json.loads(shown.stdout)
        assert len(found) == 10
        assert {one["source"] for one in found} == {"history"}
        assert not played(club)[user] & {one["isbn"] for one in found}
        own = [one for one in found if genres[one["isbn"]] == record_club.genre(number)]
        assert len(own) >= 7

    lists = tmp_path / "lists.csv"
    done = tterec("recommend", "--all", "-k", 10, "-o", lists, *url)
    assert done.returncode == 0, done.stderr
    listed = defaultdict(list)
    for row in csv.DictReader(io.StringIO(lists.read_text(encoding="utf-8"))):
        listed[row["user_id"]].append(row["isbn"])
    members = {record_club.member(number) for number in range(record_club.MEMBERS)}
    assert listed.keys() == members | {"guest"}
    with psycopg.connect(club.url) as connection:
        for user, isbns in listed.items():
            rows = connection.execute("SELECT isbn FROM tterec.recommend(%s::text)", (user,))
            assert [isbn for (isbn,) in rows] == isbns

    similar = tterec("similar", "007", "-k", 5, "--format", "csv", *url)
    assert similar.returncode == 0, similar.stderr
    alike = [row["isbn"] for row in csv.DictReader(io.StringIO(similar.stdout))]
    assert sum(genres[one] == genres["007"] for one in alike) >= 4
    unknown = tterec("similar", "no such record", *url)
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert unknown.stderr.count("\n") == 1

    only = ("--available-column", "live", "--author-column", "artist", "--max-per-author", 1)
    ruled = tterec("recommend", "123", "-k", 9, *only, "--format", "json", *url)
    assert ruled.returncode == 0, ruled.stderr
    with psycopg.connect(club.url) as connection:
        rows = connection.execute(
            "SELECT live, artist FROM club.records WHERE code = ANY (%s)",
            ([one["isbn"] for one in json.loads(ruled.stdout)],),
        ).fetchall()
    artists = [artist for _, artist in rows if artist is not None]
    assert rows
    assert {live for live, _ in rows} == {True}
    assert len(set(artists)) == len(artists)

    some = tmp_path / "some.csv"
    some.write_text('user_id\n"山田,太郎"\nnobody\n', encoding="utf-8")
    done = tterec("recommend", "--users", some, "-k", 3, *url)
    names = [row["user_id"] for row in csv.DictReader(io.StringIO(done.stdout))]
    assert names == ["山田,太郎"] * 3 + ["nobody"] * 3


def test_a_newcomer_is_served_a_moment_after_their_first_play(
    club: Database, tmp_path: Path
) -> None:
    url = ("--database-url", club.url)
    assert tterec("train", *SMALL, *flags(tmp_path), *url).returncode == 0
    stranger = tterec("recommend", "nova 🎷", "--format", "json", *url)
    assert "Nothing is known of user nova 🎷: these are popular books." in stranger.stderr
    with psycopg.connect(club.url) as connection:
        connection.execute("INSERT INTO club.plays VALUES ('nova 🎷', 'a,b', 5, now())")
    found = tterec("recommend", "nova 🎷", "--format", "json", *url)
    assert found.stderr == ""
    lines = json.loads(found.stdout)
    assert {one["source"] for one in lines} == {"history"}
    assert "a,b" not in {one["isbn"] for one in lines}


def test_evaluate_judges_the_shop_and_its_report_is_kept(club: Database, tmp_path: Path) -> None:
    url = ("--database-url", club.url)
    assert tterec("train", *SMALL, *flags(tmp_path), *url).returncode == 0
    done = tterec("evaluate", "-k", 5, "--format", "json", *url)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["items"], report["generation"]) == (record_club.RECORDS, 1)
