"""`tterec train` as a user runs it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.integration.test_train import SHOP
from tterec.database.connection import Database

SMALL = ("--dim", "8", "--epochs", "2")


def tterec(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tterec", *map(str, arguments)],
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=300,
    )


@pytest.fixture
def shop(database: Database) -> Database:
    """A database with a small bookshop's data."""
    with database.connect() as connection:
        connection.execute(SHOP)
    return database


def statuses(database: Database) -> list[str]:
    """Of all generations."""
    with psycopg.connect(database.url) as connection:
        return [
            status
            for (status,) in connection.execute("SELECT status FROM tterec.models ORDER BY 1")
        ]


def test_a_line_an_epoch_to_stderr_and_the_result_to_stdout(shop: Database) -> None:
    done = tterec("train", *SMALL, "--database-url", shop.url)
    assert done.returncode == 0, done.stderr
    epochs = [line for line in done.stderr.splitlines() if line.startswith("epoch")]
    assert [line.split("  ")[0] for line in epochs] == ["epoch 1", "epoch 2"]
    assert re.search(r"loss \d.*NDCG@20 0\.\d+.*interactions/s", epochs[0])
    first, training, validation, index, following = done.stdout.splitlines()
    assert first == (
        "Generation 1 is live: softmax, 8 dimensions, 360 interactions of 90 users with 60 items"
    )
    assert re.fullmatch(
        r"Training: epoch [12] of 2 was best, [\d.]+ s, [\d,]+ interactions/s, \d threads?",
        training,
    )
    assert re.fullmatch(
        r"Validation: NDCG@20 [01]\.\d{4} .*by the towers alone, on \d+ users", validation
    )
    assert re.fullmatch(r"Index: recall@100 [01]\.\d+ at ef_search 100, .* 90 users", index)
    command = following.removeprefix("Try: tterec ").split()
    shown = tterec(*command, "--database-url", shop.url)
    assert shown.returncode == 0, shown.stderr
    assert "Book" in shown.stdout


def test_an_unpromoted_generation_names_the_command_that_promotes_it(shop: Database) -> None:
    done = tterec("train", *SMALL, "--no-promote", "--database-url", shop.url)
    assert done.stdout.startswith("Generation 1 is ready, not live:")
    command = done.stdout.splitlines()[-1].removeprefix("Make it live: tterec ").split()
    assert tterec(*command, "--database-url", shop.url).returncode == 0


def test_settings_come_from_flags_before_the_file(shop: Database, tmp_path: Path) -> None:
    settings = tmp_path / "train.toml"
    settings.write_text("dim = 6\nepochs = 1\nseed = 9\nbatch_size = 64\n")
    done = tterec("train", "--config", settings, "--dim", "8", "--database-url", shop.url)
    assert done.returncode == 0, done.stderr
    with psycopg.connect(shop.url) as connection:
        row = connection.execute(
            "SELECT dim, seed, config -> 'epochs', config -> 'batch_size' FROM tterec.models"
        ).fetchone()
    assert row == (8, 9, 1, 64)


@pytest.mark.parametrize(
    ("arguments", "text", "complaint"),
    [
        (("--config", "{file}"), "epoch = 3\n", "unknown setting 'epoch'"),
        (("--config", "{file}"), "epochs = 'three'\n", "write a int"),
        (("--config", "{file}"), "objective = 'hinge'\n", "objective 'hinge' is unknown"),
        (("--config", "{file}.not"), "", "cannot read"),
        (("--dim", "1"), "", "dim = 1 is out of range"),
        (("--items-sql", "{file}"), "-- later\n", "holds no query"),
        (("--items-sql", "{file}"), "SELECT 1 AS id", "returns no column item_id"),
        (("--items-sql", "{file}"), "SELEC 1", "the items query is refused by Postgres"),
        ((), "", "load some first: tterec load"),
    ],
)
def test_bad_input_is_one_line_and_trains_nothing(
    database: Database, tmp_path: Path, arguments: tuple[str, ...], text: str, complaint: str
) -> None:
    file = tmp_path / "given"
    file.write_text(text)
    given = [argument.format(file=file) for argument in arguments]
    done = tterec("train", *given, "--database-url", database.url)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert complaint in done.stderr
    assert statuses(database) == []


def test_an_unknown_objective_is_wrong_usage() -> None:
    done = tterec("train", "--objective", "hinge")
    assert done.returncode == 2
    assert "'hinge' is not one of 'softmax', 'full-softmax', 'mse'" in done.stderr


@pytest.fixture
def endless(shop: Database, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A training that has done its first epoch and would go on for hours."""
    settings = tmp_path / "train.toml"
    settings.write_text("dim = 8\nepochs = 10000\npatience = 10000\n")
    with subprocess.Popen(
        [sys.executable, "-m", "tterec", "train", "--config", settings, "--database-url", shop.url],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("epoch 1 ")
        yield process
        process.kill()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_stops_cleanly_and_publishes_nothing(
    shop: Database, endless: subprocess.Popen[str], name: str
) -> None:
    number = getattr(signal, name)
    endless.send_signal(number)
    stdout, stderr = endless.communicate(timeout=60)
    assert endless.returncode == 128 + number
    assert stdout == ""
    assert stderr.splitlines()[-1] == "Stopped; nothing was published."
    assert "Traceback" not in stderr
    assert statuses(shop) == ["failed"]


def test_a_killed_training_is_cleared_by_the_next_prune(
    shop: Database, endless: subprocess.Popen[str]
) -> None:
    while_it_lives = tterec("models", "prune", "--database-url", shop.url)
    second = tterec("train", *SMALL, "--database-url", shop.url)
    endless.kill()
    endless.communicate()
    assert while_it_lives.stdout == "Nothing to prune.\n"
    assert second.returncode == 1
    assert "another `tterec train` or `tterec update --fine-tune` is running" in second.stderr
    assert second.stderr.count("\n") == 1
    assert statuses(shop) == ["building"]
    deadline = time.monotonic() + 30
    while statuses(shop) == ["building"] and time.monotonic() < deadline:
        # The server notices a moment later that its client is gone.
        pruned = tterec("models", "prune", "--database-url", shop.url)
    assert pruned.stdout == "Cleared leftovers of generation 1.\n"
    assert statuses(shop) == ["failed"]
