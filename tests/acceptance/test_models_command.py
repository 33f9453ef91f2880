"""`tterec models` as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from tests.integration.generations import plant_books, random_vectors
from tterec.config import TrainingConfig
from tterec.database.connection import Database
from tterec.store import generations, registry
from tterec.store.recall import Probe


@pytest.fixture
def shop(database: Database) -> Database:
    """A database with three generations, of which the third is live and the second previous."""
    with database.connect(autocommit=True) as connection:
        ids = plant_books(connection, 20)
        for seed in range(3):
            generation = generations.begin(connection, TrainingConfig(dim=8, seed=seed))
            vectors = random_vectors(ids, dim=8, seed=seed)
            generations.publish_vectors(connection, generation, vectors)
            generations.promote(connection, generation)
    return database


def models(database: Database, *arguments: object) -> subprocess.CompletedProcess[str]:
    given = [*map(str, arguments), "--database-url", database.url]
    return subprocess.run(
        [sys.executable, "-m", "tterec", "models", *given],
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=120,
    )


def live(database: Database) -> list[int]:
    """The generations that the list shows as live."""
    found = json.loads(models(database, "list", "--format", "json").stdout)
    return [one["generation"] for one in found if one["active"]]


def test_the_list_has_a_line_a_generation(shop: Database) -> None:
    done = models(shop, "list")
    assert (done.returncode, done.stderr) == (0, "")
    head, *lines = done.stdout.splitlines()
    assert head.split()[:3] == ["generation", "status", "created"]
    assert [line.split()[:2] for line in lines] == [["1", "ready"], ["2", "ready"], ["3", "live"]]


def test_the_list_as_json_holds_the_same(shop: Database) -> None:
    found = json.loads(models(shop, "list", "--format", "json").stdout)
    assert [one["generation"] for one in found] == [1, 2, 3]
    assert [one["active"] for one in found] == [False, False, True]
    assert found[0].keys() >= {"status", "created_at", "objective", "dim", "counts", "metrics"}


def test_an_empty_list_names_the_next_command(database: Database) -> None:
    done = models(database, "list")
    assert (done.returncode, done.stdout) == (0, "")
    assert "run: tterec train" in done.stderr
    assert models(database, "list", "--format", "json").stdout == "[]\n"


def test_show_has_the_recall_curve(database: Database) -> None:
    with database.connect(autocommit=True) as connection:
        ids = plant_books(connection, 2000)
        vectors = random_vectors(ids, dim=24)
        generation = generations.begin(connection, TrainingConfig(dim=24))
        users = np.random.default_rng(1).normal(size=(5, 24))
        probes = [Probe(user / np.linalg.norm(user), ids[:10]) for user in users]
        generations.publish_vectors(connection, generation, vectors, probes=probes)
        curve = registry.show(connection, generation)["metrics"]["index"]["curve"]
    shown = models(database, "show", generation).stdout
    assert "\nindex           5 users; recall@100 by ef_search\n" in shown
    lines = [
        line.split() for line in shown.splitlines() if line.split()[:1] in ([ef] for ef in curve)
    ]
    assert lines == [
        [ef, f"{curve[ef]:.4f}", *(["serves"] if ef == max(curve, key=int) else [])]
        for ef in sorted(curve, key=int)
    ]


def test_show_tells_how_a_generation_was_trained(shop: Database) -> None:
    table = models(shop, "show", 2).stdout
    assert "status          ready" in table
    assert "previous        yes" in table
    assert "FROM tterec.ratings" in table
    shown = json.loads(models(shop, "show", 2, "--format", "json").stdout)
    assert shown["seed"] == 1
    assert shown["previous"] is True
    assert shown["config"]["dim"] == 8
    assert shown["sources"]["origin"] == "default"


def test_promote_rollback_and_prune(shop: Database) -> None:
    promoted = models(shop, "promote", 1)
    assert promoted.stdout == "Generation 1 is live. Back again: tterec models rollback\n", (
        promoted.stderr
    )
    assert live(shop) == [1]
    assert models(shop, "rollback").stdout.startswith("Generation 3 is live.")
    assert models(shop, "prune").stdout == "Pruned generation 2.\n"
    assert models(shop, "prune").stdout == "Nothing to prune.\n"
    assert live(shop) == [3]
    found = json.loads(models(shop, "list", "--format", "json").stdout)
    assert [one["status"] for one in found] == ["ready", "pruned", "ready"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("show", 9), "there is no generation 9; see: tterec models list"),
        (("promote", 9), "there is no generation 9; see: tterec models list"),
    ],
)
def test_an_unknown_generation_is_one_line(
    shop: Database, arguments: tuple[object, ...], complaint: str
) -> None:
    done = models(shop, *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"Error: {complaint}\n"


def test_rollback_without_a_live_generation(database: Database) -> None:
    done = models(database, "rollback")
    assert done.returncode == 1
    assert done.stderr == "Error: No generation is live; run: tterec train\n"


def test_a_number_is_wanted(database: Database) -> None:
    assert models(database, "promote", "newest").returncode == 2
