"""`tterec explain`, and filters as options of `tterec recommend` and `tterec similar`."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import asdict, fields

import click
import pytest

from tests.acceptance.test_help import assert_one_line, tterec
from tests.integration.test_rules import plant_described_shop
from tests.integration.test_surfaces import STRANGER, plant_shop
from tterec import Filters, Recommender
from tterec.cli import recommend, similar
from tterec.database.connection import Database

BOOK = "0000000777"


def test_a_table_shows_the_largest_the_rest_the_profile_and_the_sum(database: Database) -> None:
    plant_shop(database, normalised=True, users=9, ranker=True)
    with Recommender(database) as recommender:
        parts, score = recommender.explain(4, BOOK), recommender.score(4, BOOK)
    done = tterec("explain", "4", BOOK, "-k", "3", url=database.url)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["title", "isbn", "rating", "adds"]
    own = [one for one in parts if one.book_id is not None]
    for line, one in zip(lines[1:4], own, strict=False):
        rating = "-" if one.rating is None else f"{one.rating:g}"
        assert line.split() == [
            *str(one.title).split(),
            one.isbn,
            rating,
            f"{one.contribution:.4f}",
        ]
    assert lines[4].startswith(f"({len(own) - 3} other books) ")
    assert lines[5].startswith("(profile) ")
    assert lines[6].split() == ["score", f"{score:.4f}"]
    amounts = [float(line.split()[-1]) for line in lines[1:6]]
    assert sum(amounts) == pytest.approx(score, abs=5e-4)
    assert len(lines) == 7
    assert len({len(line) for line in lines}) == 1


def test_json_and_csv_have_all_that_python_has(database: Database) -> None:
    plant_shop(database, normalised=True, users=9, ranker=True)
    with Recommender(database) as recommender:
        parts = [asdict(one) for one in recommender.explain(4, BOOK)]
    done = tterec("explain", "4", BOOK, "--format", "json", url=database.url)
    assert json.loads(done.stdout) == parts
    done = tterec("explain", "4", BOOK, "--format", "csv", url=database.url)
    rows = list(csv.DictReader(io.StringIO(done.stdout)))
    assert [row["isbn"] for row in rows] == [one["isbn"] or "" for one in parts]
    assert [float(row["contribution"]) for row in rows] == [one["contribution"] for one in parts]


def test_where_there_is_no_score_it_says_why(database: Database) -> None:
    done = tterec("explain", "1", "nope", url=database.url)
    assert_one_line(done, "there is no book with ISBN nope")
    with database.connect() as connection:
        connection.execute("INSERT INTO tterec.books (isbn) VALUES ('x')")
    done = tterec("explain", "1", "x", "--format", "json", url=database.url)
    assert (done.returncode, done.stdout) == (0, "[]\n")
    assert "No generation is live" in done.stderr
    with database.connect() as connection:
        connection.execute("DELETE FROM tterec.books")
    plant_shop(database, normalised=True, users=4)
    done = tterec("explain", str(STRANGER), BOOK, url=database.url)
    assert (done.returncode, done.stdout) == (0, "")
    assert f"User {STRANGER} or book {BOOK} has no vector" in done.stderr


@pytest.mark.parametrize("command", [recommend.command, similar.command], ids=str)
def test_every_filter_has_an_option(command: click.Command) -> None:
    options = {one.name for one in command.params if isinstance(one, click.Option)}
    lists = {"only_isbns": "available", "without_isbns": "unavailable"}
    assert {lists.get(field.name, field.name) for field in fields(Filters)} <= options


def test_the_options_make_the_list_that_python_makes(database: Database) -> None:
    plant_described_shop(database, users=9)
    filters = Filters(author="a. best", min_year=1960, max_year=2015)
    options = ["--author", "A. Best ", "--min-year", "1960", "--max-year", "2015"]
    with Recommender(database) as recommender:
        done = tterec("recommend", "4", "--format", "json", *options, url=database.url)
        wanted = [asdict(one) for one in recommender.recommend(4, filters=filters)]
        assert json.loads(done.stdout) == wanted
        assert len(wanted) == 10
        done = tterec("similar", BOOK, "--format", "json", *options, url=database.url)
        near = [asdict(one) for one in recommender.similar(BOOK, filters=filters)]
        assert json.loads(done.stdout) == near
        filters = Filters(min_ratings=3)
        done = tterec("recommend", "--all", "-k", "3", "--min-ratings", "3", url=database.url)
        listed = [(row["user_id"], row["isbn"]) for row in csv.DictReader(io.StringIO(done.stdout))]
        many = recommender.recommend_many(None, 3, filters=filters)
        assert listed == [(str(user), one.isbn) for user, found in many for one in found]


def test_filters_that_cannot_be_are_one_line_and_none_left_is_said(database: Database) -> None:
    plant_described_shop(database, users=4)
    done = tterec("recommend", "1", "--min-ratings", "-1", url=database.url)
    assert_one_line(done, "min_ratings = -1 is negative")
    done = tterec("recommend", "1", "--publisher", "x", url=database.url)
    assert_one_line(done, "the items query returns no column publisher, by which publisher filters")
    done = tterec("recommend", "4", "--author", "Nobody", url=database.url)
    assert done.returncode == 0
    assert re.fullmatch(r"No book that passes the filters is left for user 4\.\n", done.stderr)
    assert tterec("recommend", "1", "--min-year", "new", url=database.url).returncode == 2
