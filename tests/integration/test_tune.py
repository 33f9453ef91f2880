"""The verb `tune`: trials that outlive their process, and settings that were confirmed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from tests.integration.test_train import SHOP, rows
from tterec import errors, fitting, tuning
from tterec.config import TrainingConfig
from tterec.database import schema
from tterec.database.connection import Database
from tterec.records import Progress
from tterec.store import locks, reading, sources

# One epoch is too short for the default learning rate, so that there is something to find.
TINY = {"epochs": 1, "threads": 1, "dim": 8, "batch_size": 64}
ENDLESS = {"epochs": 10_000, "patience": 10_000, "threads": 1}

STATES = "SELECT number, state::text FROM tterec_tune.trials ORDER BY trial_id"


@pytest.fixture
def shop(database: Database) -> Database:
    """A database with a small bookshop's data."""
    with database.connect() as connection:
        connection.execute(SHOP)
    return database


def states(database: Database) -> list[tuple[object, ...]]:
    """Number and state of every trial of every study, in the order in which they began."""
    with database.connect() as connection:
        return rows(connection, STATES)


def test_the_defaults_come_first_and_a_run_goes_on_where_the_last_one_ended(
    shop: Database,
) -> None:
    said: list[str] = []

    def listen(step: Progress) -> None:
        if step.stage == "tune":
            said.append(str(step.message))

    first = tuning.tune(shop, TINY, budget=300, most=2, progress=listen)
    assert first.default.number == 0
    assert first.default.settings == {
        name: getattr(TrainingConfig(), name) for name in first.default.settings
    }
    assert first.trials == 2
    assert said[0].startswith(f"trial 0  NDCG@20 {first.default.figure:.4f}  best")
    said.clear()
    second = tuning.tune(shop, TINY, budget=300, most=2, progress=listen)
    assert said[0].startswith(f"going on from 2 trials, best {first.best.figure:.4f}")
    assert second.trials == 4
    assert second.default == first.default or first.default.confirmed is None
    assert second.best.figure >= first.best.figure
    assert states(shop) == [(number, "COMPLETE") for number in range(4)]


def test_the_best_is_confirmed_on_another_draw_and_refuted_where_it_loses_there(
    shop: Database,
) -> None:
    tuned = tuning.tune(shop, TINY, budget=300, most=6)
    assert tuned.verdict == "better"
    assert tuned.best.figure > tuned.default.figure
    assert tuned.best.confirmed is not None
    assert tuned.default.confirmed is not None
    assert tuned.best.confirmed > tuned.default.confirmed
    assert tuned.settings == TINY | tuned.best.settings
    with shop.connect(autocommit=True) as connection:
        data = reading.read_sources(connection, sources.chosen(connection, {}))
    config = replace(TrainingConfig(**TINY), **tuned.best.settings)  # type: ignore[arg-type]
    for seed, figure in ((0, tuned.best.figure), (1, tuned.best.confirmed)):
        model = fitting.fit(data.interactions, data.users, data.items, replace(config, seed=seed))
        assert tuning.figure_of(model.metrics, "softmax") == figure

    with shop.connect() as connection:
        connection.execute(
            "UPDATE tterec_tune.study_user_attributes SET value_json = '0.99' WHERE key = %s",
            (f"confirmed {tuned.default.number}",),
        )
    again = tuning.tune(shop, TINY, budget=300, most=0)
    assert again.verdict == "refuted"
    assert again.settings == TINY | again.default.settings
    assert again.best == tuned.best


def test_with_mse_the_smaller_rmse_is_the_better(shop: Database) -> None:
    tuned = tuning.tune(shop, TINY | {"objective": "mse"}, budget=300, most=4)
    assert tuned.measure == "RMSE"
    assert tuned.best.figure <= tuned.default.figure
    if tuned.verdict == "better":
        assert (tuned.best.confirmed or 9) < (tuned.default.confirmed or 0)
    else:
        assert tuned.verdict in ("default", "refuted")


def studies(database: Database) -> int:
    with database.connect() as connection:
        return len(rows(connection, "SELECT 1 FROM tterec_tune.studies"))


def test_other_data_other_queries_and_another_objective_are_other_studies(shop: Database) -> None:
    def tune(**more: object) -> tuple[int, int]:
        found = tuning.tune(shop, TINY | more, budget=300, most=1)
        return found.trials, studies(shop)

    assert tune() == (1, 1)
    with shop.connect() as connection:  # what a living shop looks like a moment later
        connection.execute("INSERT INTO tterec.ratings VALUES (1, 3, 8), (2, 4, 7)")
    assert tune() == (2, 1)
    assert tune(objective="mse") == (1, 2)
    assert tune(seed=1) == (1, 3)  # another draw of validation interactions
    assert tune(max_history=5) == (1, 4)
    with shop.connect() as connection:
        connection.execute("DELETE FROM tterec.ratings WHERE user_id % 5 = 0")
    assert tune() == (1, 5)
    with shop.connect() as connection:
        query = sources.default_queries()
        sources.set_sources(
            connection, replace(query, items="SELECT book_id AS item_id FROM tterec.books")
        )
    assert tune() == (1, 6)


def test_a_training_that_exceeds_the_budget_is_stopped(shop: Database) -> None:
    started = time.monotonic()
    with pytest.raises(errors.TrainingError, match=r"within 4 seconds.*--budget"):
        tuning.tune(shop, ENDLESS, budget=4)
    assert time.monotonic() - started < 30
    assert states(shop) == [(0, "PRUNED")]


def test_ctrl_c_keeps_the_finished_trials_and_the_best(shop: Database) -> None:
    def interrupt(step: Progress) -> None:
        if step.stage == "tune" and str(step.message).startswith("trial 1 "):
            raise KeyboardInterrupt

    tuned = tuning.tune(shop, TINY, budget=300, progress=interrupt)
    assert (tuned.stopped, tuned.trials) == (True, 2)
    assert tuned.verdict in ("unconfirmed", "default")
    assert tuning.tune(shop, TINY, budget=300, most=1).trials == 3


def test_ctrl_c_before_the_first_trial_is_finished_has_nothing_to_return(shop: Database) -> None:
    def interrupt(step: Progress) -> None:
        if step.stage == "train":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tuning.tune(shop, TINY, budget=300, progress=interrupt)
    assert states(shop) == [(0, "FAIL")]
    assert tuning.tune(shop, TINY, budget=300, most=1).default.number == 1


@pytest.fixture
def running(shop: Database, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A `tterec tune` that has finished its first trial and goes on."""
    settings = tmp_path / "fixed.toml"
    settings.write_text("".join(f"{name} = {value}\n" for name, value in TINY.items()))
    arguments = ["--config", settings, "--database-url", shop.url, "-o", tmp_path / "train.toml"]
    with subprocess.Popen(
        [sys.executable, "-m", "tterec", "tune", *arguments],
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("trial 0 ")
        yield process
        process.kill()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGSTOP")
def test_a_killed_run_loses_the_trial_that_it_was_at_and_nothing_else(
    shop: Database, running: subprocess.Popen[str]
) -> None:
    with pytest.raises(errors.Busy, match="another `tterec tune`"):
        tuning.tune(shop, TINY, budget=300)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:  # stopped first, so that it stays in the middle
        os.kill(running.pid, signal.SIGSTOP)
        before = states(shop)
        if before[-1][1] == "RUNNING":
            break
        os.kill(running.pid, signal.SIGCONT)
        time.sleep(0.02)
    running.kill()
    running.wait()
    assert before[-1][1] == "RUNNING"
    assert states(shop) == before
    wait_for_the_lock(shop)
    tuned = tuning.tune(shop, TINY, budget=300, most=1)
    number, _ = before[-1]
    assert isinstance(number, int)
    assert states(shop) == [*before[:-1], (number, "FAIL"), (number + 1, "COMPLETE")]
    assert tuned.trials == number + 1
    assert tuned.default.number == 0


def wait_for_the_lock(database: Database) -> None:
    """The server notices a moment later that its client is gone."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            with database.connect(autocommit=True) as connection:
                locks.hold_tuning(connection)
            return
        except errors.Busy:
            time.sleep(0.05)


def test_the_trials_are_beside_the_schema_and_change_nothing_in_it(shop: Database) -> None:
    tuning.tune(shop, TINY, budget=300, most=1)
    assert schema.differences(shop) == []
    with shop.connect() as connection:
        assert schema.current(connection) == schema.HEAD
        assert rows(connection, "SELECT 1 FROM tterec.models") == []
        assert rows(connection, "SELECT 1 FROM pg_tables WHERE schemaname = 'public'") == []
        connection.execute("DROP SCHEMA tterec_tune CASCADE")
    assert tuning.tune(shop, TINY, budget=300, most=1).trials == 1


def test_tables_of_another_optuna_are_refused_with_the_line_that_forgets_them(
    shop: Database,
) -> None:
    tuning.tune(shop, TINY, budget=300, most=1)
    with shop.connect() as connection:
        connection.execute("UPDATE tterec_tune.alembic_version SET version_num = 'v9.9.9'")
    with pytest.raises(errors.DatabaseError, match="DROP SCHEMA tterec_tune CASCADE"):
        tuning.tune(shop, TINY, budget=300, most=1)


def test_an_error_of_the_database_is_one_of_ours(shop: Database) -> None:
    tuning.tune(shop, TINY, budget=300, most=1)

    def sabotage(step: Progress) -> None:
        if step.stage == "train" and step.message is None:
            with psycopg.connect(shop.url, autocommit=True) as connection:
                connection.execute("ALTER TABLE IF EXISTS tterec_tune.trial_values RENAME TO gone")

    with pytest.raises(errors.DatabaseError, match="trial_values"):
        tuning.tune(shop, TINY, budget=300, most=1, progress=sabotage)
