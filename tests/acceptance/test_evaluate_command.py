"""`tterec evaluate` as a user runs it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import psycopg
import pytest

from tests.acceptance.test_train_command import SMALL, shop, tterec
from tterec.database.connection import Database

__all__ = ["shop"]  # a fixture


def test_the_table_shows_every_model_and_metric_and_fits_100_columns(shop: Database) -> None:
    done = tterec("evaluate", *SMALL, "--database-url", shop.url)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 100
    assert re.fullmatch(
        r"Held out: 20% of each user's interactions, by lot \(\d+ interactions; seed 0\)", lines[0]
    )
    assert re.fullmatch(r"Trained on \d+ interactions; all 60 items ranked for \d+ users", lines[1])
    assert lines[2] == "Relevant: every held-out item"
    for name in ("towers alone", "item-kNN", "popularity"):
        assert name in done.stdout
    for metric in ("NDCG", "recall", "precision", "MAP", "MRR", "hit rate"):
        assert re.search(rf"^ {metric}@20( +\d\.\d+ [\d.]+-[\d.]+){{4}} *$", done.stdout, re.M)
    for label in ("coverage", "novelty, bits", "from the top 1%", "1-4: ", "the rest"):
        assert re.search(rf"^ {label}", done.stdout, re.M), label
    assert re.search(r"^tterec less [\w-]+: NDCG@20 [+-]\d\.\d+ \[", done.stdout, re.M)
    assert re.search(r"^tterec less towers alone: NDCG@20", done.stdout, re.M)
    assert done.stderr.splitlines()[0].startswith("epoch 1 ")
    assert done.stderr.splitlines()[-1] == "Not stored: no generation is live."


def test_json_is_one_object_on_stdout(shop: Database) -> None:
    done = tterec("evaluate", *SMALL, "-k", 5, "--format", "json", "--database-url", shop.url)
    report = json.loads(done.stdout)
    assert (report["split"], report["share"], report["k"]) == ("random", 0.2, 5)
    assert report["settings"]["dim"] == 8
    assert report["models"].keys() == {"tterec", "towers", "item_knn", "popularity"}
    for found in report["models"].values():
        ndcg = found["overall"]["ndcg"]
        assert 0 <= ndcg["low"] <= ndcg["value"] <= ndcg["high"] <= 1
        assert found["by_user_ratings"].keys() == {"0", "1-4", "5-19", "20+"}
        assert found["by_item_popularity"].keys() == {"head", "middle", "tail"}


def test_what_was_trained_is_evaluated_and_shown_with_its_generation(
    shop: Database, tmp_path: Path
) -> None:
    settings = tmp_path / "train.toml"
    settings.write_text('objective = "mse"\ndim = 6\nepochs = 2\nseed = 9\n')
    assert tterec("train", "--config", settings, "--database-url", shop.url).returncode == 0
    done = tterec("evaluate", "--split", "leave-one-out", "--database-url", shop.url)
    assert done.returncode == 0, done.stderr
    assert "one interaction of each user, by lot (90 interactions; seed 9)" in done.stdout
    assert re.search(r"^RMSE of predicted ratings: tterec \d\.\d+ \[.*biases", done.stdout, re.M)
    assert done.stderr.splitlines()[-1] == "Stored; see: tterec models show 1"
    shown = tterec("models", "show", 1, "--database-url", shop.url).stdout
    assert re.search(
        r"^evaluation      leave-one-out, 90 users, k 20\n  tterec +ndcg 0\.\d+, recall .*rmse",
        shown,
        re.M,
    )
    again = tterec("models", "show", 1, "--format", "json", "--database-url", shop.url)
    stored = json.loads(again.stdout)["metrics"]["evaluation"]["leave-one-out"]
    assert stored["generation"] == 1
    other = tterec("evaluate", "--seed", 1, "--database-url", shop.url)
    assert other.stderr.splitlines()[-1] == (
        "Not stored: generation 1, which is live, was trained with another seed."
    )


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--config", "missing.toml"), "cannot read missing.toml"),
        (("--dim", "1"), "dim = 1 is out of range"),
        (("--relevant-from", "11"), "no held-out interaction is rated 11 or more"),
        (("--split", "temporal"), "run: tterec evaluate --split random"),
    ],
)
def test_bad_input_is_one_line(shop: Database, arguments: tuple[str, ...], complaint: str) -> None:
    with psycopg.connect(shop.url) as connection:
        connection.execute(
            "UPDATE tterec.ratings SET rated_at = NULL, rating = coalesce(rating, 8)"
        )
    done = tterec("evaluate", *arguments, "--database-url", shop.url)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1].startswith("Error: ")
    assert complaint in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--split", "weekly"),
        ("--share", "1"),
        ("-k", "0"),
        ("--users", "0"),
        ("--split", "leave-one-out", "--share", "0.5"),
    ],
)
def test_wrong_usage_exits_2(arguments: tuple[str, ...]) -> None:
    done = tterec("evaluate", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Usage: " in done.stderr
