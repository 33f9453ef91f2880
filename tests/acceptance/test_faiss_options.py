"""`--index` and `tterec bench-index`, as typed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import click
import numpy as np
import pytest

from tests.acceptance.test_help import assert_one_line, tterec
from tests.integration.generations import plant, plant_books, plant_ratings, random_vectors
from tterec import Recommender, config
from tterec.cli import bench_index, recommend, similar
from tterec.cli.options import INDEXES
from tterec.database.connection import Database
from tterec.retrieval import choice


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(config.HOME_VARIABLE, str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.fixture
def shop(database: Database) -> Iterator[Database]:
    with database.connect() as connection:
        books, rng = plant_books(connection, 500), np.random.default_rng(3)
        for user in range(1, 31):
            read = rng.choice(books, 20, replace=False)
            plant_ratings(connection, user, read.tolist(), rng.integers(0, 11, 20).tolist())
        plant(connection, random_vectors(books, range(1, 31)))
    return database


@pytest.fixture
def without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither FAISS nor Matplotlib can be imported by a command."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    for name in ("faiss", "matplotlib"):
        text = f"raise ModuleNotFoundError(name={name!r})\n"
        (hidden / f"{name}.py").write_text(text, encoding="utf-8")
    path = os.pathsep.join([str(hidden), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)


def test_the_options_name_every_index() -> None:
    assert INDEXES == choice.INDEXES
    for command in (recommend.command, similar.command, bench_index.command):
        [option] = [one for one in command.params if "--index" in one.opts]
        assert isinstance(option.type, click.Choice)
        assert tuple(option.type.choices) == INDEXES


@pytest.mark.parametrize("name", INDEXES)
def test_the_option_makes_the_list_that_python_makes(shop: Database, name: str) -> None:
    with Recommender(shop, index=name) as recommender:
        wanted = recommender.recommend(5, 7)
        near = recommender.similar("0000000009", 7)
    done = tterec("recommend", "5", "-k", "7", "--format", "json", "--index", name, url=shop.url)
    assert done.stderr == ""
    assert json.loads(done.stdout) == [asdict(one) for one in wanted]
    done = tterec(
        "similar", "0000000009", "-k", "7", "--format", "json", "--index", name, url=shop.url
    )
    assert json.loads(done.stdout) == [asdict(one) for one in near]


def test_lists_of_everybody_by_faiss_are_those_of_the_exhaustive_search(shop: Database) -> None:
    by_default = tterec("recommend", "--all", url=shop.url)
    by_faiss = tterec("recommend", "--all", "--index", "faiss-flat", url=shop.url)
    assert by_faiss.returncode == 0, by_faiss.stderr
    assert by_faiss.stdout == by_default.stdout
    assert by_faiss.stdout.count("\n") == 301


def test_without_faiss_the_command_that_installs_it_is_named(without: None, shop: Database) -> None:
    for words in (["recommend", "5"], ["similar", "0000000009"], ["bench-index"]):
        done = tterec(*words, "--index", "faiss-hnsw", url=shop.url)
        assert_one_line(done, "run: pip install 'tterec.faiss.'")
    assert tterec("recommend", "5", url=shop.url).returncode == 0
    done = tterec("bench-index", "--users", "5", url=shop.url)
    assert done.returncode == 0
    assert done.stderr == "Only pgvector; for the others run: pip install 'tterec[faiss]'\n"
    assert "faiss" not in done.stdout.rsplit("\n\n", 1)[0]


def test_without_matplotlib_the_command_that_installs_it_is_named(
    without: None, shop: Database
) -> None:
    done = tterec("bench-index", "--plot", "curves.png", url=shop.url)
    assert_one_line(done, "run: pip install 'tterec.plot.'")


def test_the_benchmark_measures_every_index_and_names_the_fastest(shop: Database) -> None:
    done = tterec(
        "bench-index",
        "-k",
        "5",
        "--users",
        "20",
        "--plot",
        "curves.png",
        "--format",
        "json",
        url=shop.url,
    )
    assert (done.returncode, done.stderr) == (0, "Wrote curves.png.\n")
    report = json.loads(done.stdout)
    assert (report["items"], report["users"], report["k"]) == (500, 20, 5)
    rows = report["rows"]
    assert {row["index"] for row in rows} == set(INDEXES)
    for row in rows:
        assert 0 <= row["recall"] <= 1
        assert 0 < row["p50_ms"] <= row["p99_ms"]
        if row["setting"] != "scan":
            assert row["bytes"] > 0
            assert row["build_seconds"] >= 0
    exact = [row for row in rows if row["index"] == "faiss-flat" or row["setting"] == "scan"]
    assert [row["recall"] for row in exact] == [1.0, 1.0]
    reached = [row for row in rows if row["recall"] >= 0.95]
    assert report["fastest"] == min(reached, key=lambda row: row["p50_ms"])
    assert Path("curves.png").read_bytes().startswith(b"\x89PNG")


def test_recall_rises_with_the_effort_and_the_table_ends_with_a_verdict(shop: Database) -> None:
    done = tterec("bench-index", "--index", "faiss-ivfpq", "--users", "20", url=shop.url)
    assert done.returncode == 0, done.stderr
    recalls = [
        float(line.split()[3])
        for line in done.stdout.splitlines()
        if "nprobe" in line and line.startswith("faiss-ivfpq")
    ]
    assert len(recalls) > 2
    assert recalls[0] < recalls[-1]
    last = done.stdout.splitlines()[-1]
    assert last.startswith(("Fastest with recall@10 of 0.95 or more: faiss-ivfpq", "No setting"))
    with shop.connect() as connection:  # what was built to be timed is gone
        assert not connection.execute(
            "SELECT FROM pg_class WHERE relname = 'tterec_index_build'"
        ).fetchone()


def test_a_shop_without_interactions_is_one_line(database: Database) -> None:
    with database.connect() as connection:
        plant(connection, random_vectors(plant_books(connection, 20)))
    assert_one_line(tterec("bench-index", url=database.url), "no user with interactions")


def test_what_would_be_ignored_is_refused() -> None:
    for words, said in (
        (("1", "--strategy", "popular", "--no-ranker"), "leave out --no-ranker"),
        (("--profile", "age=3", "--no-ranker"), "leave out --no-ranker"),
        (("--all", "--strategy", "popular", "--index", "faiss-flat"), "leave out --index"),
    ):
        assert_one_line(tterec("recommend", *words), said)
