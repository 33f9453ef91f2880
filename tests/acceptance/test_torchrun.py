"""`torchrun … -m tterec train`: two processes train one generation."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from tests.acceptance.test_help import assert_one_line
from tests.acceptance.test_train_command import statuses, tterec
from tterec import pipeline
from tterec.bookshop import open_bookshop
from tterec.database.connection import Database

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
TIMEOUT = 200


@pytest.fixture
def shop(database: Database, tmp_path: Path) -> Database:
    """The demo's bookshop with fewer readers."""
    users, books, ratings = open_bookshop(3, users=500, books=250).write_csv(tmp_path)
    pipeline.load(database, users=users, books=books, ratings=ratings)
    return database


def torchrun(
    *arguments: str, program: tuple[str, ...] = ("-m", "tterec")
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TORCHRUN, *program, "train", *arguments],
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=TIMEOUT,
    )


def ndcg(output: str) -> float:
    found = re.search(r"(0\.\d+) by the towers alone", output)
    assert found, output
    return float(found[1])


def errors_in(stderr: str) -> list[str]:
    """What tterec itself said of the failure; torchrun adds a report of its own."""
    return [line for line in stderr.splitlines() if line.startswith(("Error: ", "Stopped"))]


def test_two_ranks_learn_as_well_as_one(shop: Database) -> None:
    options = ("--database-url", shop.url, "--seed", "4", "--epochs", "4", "--dim", "32")
    alone = tterec("train", *options, "--no-promote")
    assert alone.returncode == 0, alone.stderr
    both = torchrun(*options)
    assert both.returncode == 0, both.stderr
    assert ndcg(both.stdout) == pytest.approx(ndcg(alone.stdout), rel=0.03)
    epochs = [line for line in both.stderr.splitlines() if line.startswith("epoch")]
    assert [line.split()[1] for line in epochs] == [str(n + 1) for n in range(len(epochs))]
    assert both.stdout.count("Generation 2 is live") == 1
    assert statuses(shop) == ["ready", "ready"]


def test_what_stops_the_first_rank_stops_all_with_one_message(
    shop: Database, tmp_path: Path
) -> None:
    wrong = tmp_path / "items.sql"
    wrong.write_text("SELECT 1 AS nothing")
    done = torchrun("--database-url", shop.url, "--items-sql", str(wrong))
    assert done.returncode != 0
    (said,) = errors_in(done.stderr)
    assert "item_id" in said
    assert statuses(shop) == []


def test_a_training_that_diverges_is_one_message_of_the_first_rank(
    shop: Database, tmp_path: Path
) -> None:
    # No setting that is let through makes Adagrad diverge: the loss is made NaN.
    script = tmp_path / "diverging.py"
    script.write_text(
        "from tterec.cli import main\nfrom tterec.towers import losses\n"
        "softmax = losses.softmax\n"
        "losses.softmax = lambda *given: softmax(*given) * float('nan')\nmain()\n"
    )
    done = torchrun("--database-url", shop.url, program=(str(script),))
    assert done.returncode != 0
    (said,) = errors_in(done.stderr)
    assert re.fullmatch(r"Error: the loss became nan; train again with .* in train.toml", said)
    assert "ready" not in statuses(shop)


@contextmanager
def training(
    shop: Database, folder: Path
) -> Iterator[tuple[subprocess.Popen[str], list[psutil.Process]]]:
    """torchrun, and its two ranks in order, when both are learning."""
    patient = folder / "train.toml"
    patient.write_text("patience = 500\nepochs = 500\n")
    command = [*TORCHRUN, "-m", "tterec", "train", "--database-url", shop.url]
    with subprocess.Popen(
        [*command, "--config", str(patient)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr is not None
        ranks: list[psutil.Process] = []
        try:
            assert any("epoch 1" in line for line in process.stderr)
            ranks = psutil.Process(process.pid).children()
            yield process, sorted(ranks, key=lambda one: int(one.environ()["RANK"]))
        finally:
            for one in ranks:
                if one.is_running():
                    one.kill()
            process.kill()


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_is_killed_ends_all_and_leaves_nothing(
    shop: Database, tmp_path: Path, rank: int
) -> None:
    with training(shop, tmp_path) as (process, ranks):
        ranks[rank].send_signal(signal.SIGKILL)
        started = time.monotonic()
        _, said = process.communicate(timeout=60)
        assert process.returncode != 0
        assert time.monotonic() - started < 45
        assert not any(one.is_running() for one in ranks)
        # Who is left hears it from the dead rank's silence, or from torchrun, which may be faster.
        (line,) = errors_in(said)
        assert line.startswith("Error: another rank is gone" if rank == 0 else ("Error: a", "Stop"))
    assert "ready" not in statuses(shop)
    if rank == 0:  # whose locks are gone with it
        done = tterec("train", "--database-url", shop.url, "--epochs", "1")
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_who_stops_torchrun_is_told_once_what_that_leaves(
    shop: Database, tmp_path: Path, number: signal.Signals
) -> None:
    with training(shop, tmp_path) as (process, ranks):
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
        assert process.returncode != 0
        assert not any(one.is_running() for one in ranks)
    assert errors_in(said) == ["Stopped; nothing was published."], said
    assert "ready" not in statuses(shop)


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_is_stopped_stops_the_others(shop: Database, tmp_path: Path, rank: int) -> None:
    """Also one that has not heard the signal: an unlucky moment can lose it."""
    with training(shop, tmp_path) as (process, ranks):
        ranks[rank].send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        assert process.returncode != 0
        assert not any(one.is_running() for one in ranks)
    assert errors_in(said) == ["Stopped; nothing was published."], said
    assert "ready" not in statuses(shop)


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK = 2 of WORLD_SIZE = 2 cannot be"),
        ({"RANK": "x", "WORLD_SIZE": "2"}, "cannot be; both are torchrun's"),
        ({"RANK": "0", "WORLD_SIZE": "2"}, "rank 0 of 2 cannot join the others"),
        ({"RANK": "1", "WORLD_SIZE": "2"}, "rank 1 of 2 cannot join the others"),
    ],
)
def test_an_environment_that_is_not_torchruns_is_refused(
    environment: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert_one_line(tterec("train", "--database-url", "postgresql://127.0.0.1:1/x"), said)


def test_one_process_of_torchrun_trains_as_without(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "1"}.items():
        monkeypatch.setenv(name, value)
    done = tterec("train", "--database-url", "postgresql://127.0.0.1:1/x")
    assert_one_line(done, "cannot connect")
