"""The rules of a shop as options of `tterec recommend` and `tterec similar`."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict, fields
from pathlib import Path

import click
import pytest

from tests.acceptance.test_help import assert_one_line, tterec
from tests.integration.test_rules import author_of, plant_described_shop
from tterec import Recommender, Rules
from tterec.cli import recommend, similar
from tterec.database.connection import Database


@pytest.mark.parametrize("command", [recommend.command, similar.command], ids=str)
def test_every_rule_has_an_option_and_the_help_its_default(command: click.Command) -> None:
    options = {one.name: one for one in command.params if isinstance(one, click.Option)}
    defaults = {field.name: getattr(Rules(), field.name) for field in fields(Rules)}
    del defaults["as_of"]  # for those who replay the past, in Python
    assert set(defaults) <= set(options)
    for name in ("half_life", "seed", "author_column", "year_column"):
        value = defaults[name]
        shown = f"{value:g}" if isinstance(value, float) else value
        assert f"default {shown}." in (options[name].help or "")


def test_the_options_make_the_list_that_python_makes(database: Database, tmp_path: Path) -> None:
    plant_described_shop(database)
    missing = tmp_path / "sold out.csv"
    missing.write_text("ISBN,why\n0000000002,sold\n0000000004,lost\n", encoding="utf-8")
    options = ["--diversity", "0.3", "--max-per-author", "1", "--freshness", "0.2"]
    options += ["--half-life", "8", "--year-column", "published", "--author-column", "author"]
    options += ["--dither", "0.5", "--seed", "7", "--unavailable", str(missing)]
    options += ["--available-column", "in_stock"]
    rules = Rules(
        diversity=0.3,
        max_per_author=1,
        freshness=0.2,
        half_life=8,
        year_column="published",
        dither=0.5,
        seed=7,
        unavailable=["0000000002", "0000000004"],
        available_column="in_stock",
    )
    with Recommender(database) as recommender:
        done = tterec("recommend", "5", "--format", "json", *options, url=database.url)
        assert done.returncode == 0, done.stderr
        wanted = recommender.recommend(5, rules=rules)
        assert json.loads(done.stdout) == [asdict(one) for one in wanted]
        done = tterec(
            "similar", "0000000001", "-k", "4", "--format", "json", *options, url=database.url
        )
        near = recommender.similar("0000000001", 4, rules=rules)
        assert json.loads(done.stdout) == [asdict(one) for one in near]


def test_lists_for_all_keep_to_the_rules(database: Database, tmp_path: Path) -> None:
    plant_described_shop(database)
    there = tmp_path / "there.csv"
    isbns = [f"{book:010}" for book in range(1, 201)]
    there.write_text("isbn\n" + "\n".join(isbns), encoding="utf-8")
    done = tterec(
        "recommend",
        "--all",
        "--available",
        str(there),
        "--max-per-author",
        "3",
        url=database.url,
    )
    assert done.returncode == 0, done.stderr
    lists: dict[str, list[str]] = {}
    for row in csv.DictReader(io.StringIO(done.stdout)):
        lists.setdefault(row["user_id"], []).append(row["isbn"])
    assert len(lists) == 30
    for listed in lists.values():
        assert set(listed) <= set(isbns)
        assert sum(author_of(int(isbn)) == "A. Best" for isbn in listed) <= 3
        assert len(listed) == 10


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--diversity", "1.5"], "diversity = 1.5 is out of range; choose 0 to 1"),
        (["--max-per-author", "0"], "max_per_author = 0 is out of range; choose 1"),
        (["--freshness", "nan"], "freshness = nan"),
        (["--half-life", "-2"], "half_life = -2.0"),
        (["--available", "missing.csv"], "cannot read missing.csv"),
        (["--unavailable", "empty.csv"], "empty.csv has no column isbn"),
        (["--available-column", "in_stock"], "no column in_stock; it returns item_id, isbn"),
        (["--max-per-author", "1", "--author-column", "director"], "no column director"),
        (["--freshness", "1", "--year-column", "title"], "name one that is a number or a date"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_is_one_line(
    options: list[str],
    said: str,
    database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.csv").touch()
    assert_one_line(tterec("recommend", "1", *options, url=database.url), said)


def test_a_word_for_a_number_is_wrong_usage(database: Database) -> None:
    done = tterec("recommend", "1", "--max-per-author", "few", url=database.url)
    assert done.returncode == 2
    assert "Usage: " in done.stderr
