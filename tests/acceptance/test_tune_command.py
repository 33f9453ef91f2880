"""`tterec tune` as a user runs it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import psycopg
import pytest

from tests.integration.test_train import SHOP
from tterec.config import TrainingConfig
from tterec.database.connection import Database
from tterec.settings_files import training_config

FIXED = "epochs = 1\nthreads = 1\ndim = 8\nbatch_size = 64\n"


@pytest.fixture
def shop(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Database:
    """A database with a small bookshop's data, and a directory with fixed settings to work in."""
    with database.connect() as connection:
        connection.execute(SHOP)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TTEREC_DATABASE_URL", database.url)
    Path("fixed.toml").write_text(FIXED, encoding="utf-8")
    return database


def tterec(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tterec", *arguments],
        env=os.environ | environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=300,
    )


def test_the_written_file_trains_and_a_second_run_goes_on(shop: Database) -> None:
    tune = ("tune", "--config", "fixed.toml", "--trials", "6", "--budget", "5m")
    done = tterec(*tune)
    assert done.returncode == 0, done.stderr
    lines = done.stderr.splitlines()
    for number, line in enumerate(lines[:6]):
        assert re.match(
            rf"trial {number}  NDCG@20 0\.\d{{4}}  best 0\.\d{{4}} \(trial \d\)  ", line
        )
        assert re.search(r"  \dm \d\ds left  \(.*learning_rate 0\.0\d", line), line
    assert all("on other validation interactions" in line for line in lines[6:])
    first, second, *table, last = done.stdout.splitlines()
    assert re.match(r"Trial \d is the best of 6: NDCG@20 0\.\d{4}, the defaults 0\.\d{4}\.$", first)
    assert re.match(r"On other held-out interactions: 0\.\d{4}, the defaults 0\.\d{4}\.$", second)
    assert last == "Wrote train.toml. Train with it: tterec train --config train.toml"

    text = Path("train.toml").read_text(encoding="utf-8")
    assert first in text
    assert second in text
    config = training_config(Path("train.toml"))
    assert (config.epochs, config.dim, config.batch_size) == (1, 8, 64)
    assert config.learning_rate != TrainingConfig().learning_rate
    shown = {line.split()[0]: line.split()[1:] for line in table}
    assert shown.pop("setting") == ["default", "tuned"]
    for name, value in tomllib.loads(text).items():
        usual = getattr(TrainingConfig(), name)
        if value == usual:
            assert name not in shown
        else:
            assert shown[name] == [f"{usual:g}", f"{value:g}"]

    again = tterec(*tune[:-3], "1")
    assert again.returncode == 0, again.stderr
    assert again.stderr.startswith("going on from 6 trials, best ")
    assert " of 7: " in again.stdout
    command = again.stdout.splitlines()[-1].rpartition("tterec ")[2].split()
    trained = tterec(*command)
    assert trained.returncode == 0, trained.stderr
    assert trained.stdout.startswith("Generation 1 is live: softmax, 8 dimensions")


def test_a_file_that_tune_did_not_write_is_kept(shop: Database) -> None:
    arguments = ("tune", "--config", "fixed.toml", "-o", "mine.toml", "--trials", "1")
    Path("mine.toml").write_text("dim = 32\n", encoding="utf-8")
    refused = tterec(*arguments)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert re.fullmatch(r"Error: mine\.toml was not written by tune; .*--force\n", refused.stderr)
    assert Path("mine.toml").read_text(encoding="utf-8") == "dim = 32\n"
    forced = tterec(*arguments, "--force")
    assert forced.returncode == 0, forced.stderr
    assert "Only the defaults were tried" in forced.stdout
    assert training_config(Path("mine.toml")) == training_config(Path("fixed.toml"))
    assert sorted(path.name for path in Path().iterdir()) == ["fixed.toml", "mine.toml"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--budget", "20"), "the budget '20' is no time; write it like 90s"),
        (("--config", "missing.toml"), "cannot read missing.toml"),
        (("--config", "odd.toml"), "unknown setting 'colour'"),
        (("--config", "wild.toml"), "dim = 1 is out of range"),
        (("--config", "all.toml", "--objective", "mse"), "leave some of them out"),
        (("-o", "nowhere/train.toml"), "there is no directory nowhere"),
    ],
)
def test_bad_input_is_one_line(shop: Database, arguments: tuple[str, ...], complaint: str) -> None:
    Path("odd.toml").write_text("colour = 3\n", encoding="utf-8")
    Path("wild.toml").write_text("dim = 1\n", encoding="utf-8")
    Path("all.toml").write_text(
        "learning_rate = 0.1\ndim = 8\nbatch_size = 64\nid_dropout = 0\nid_shrinkage = 1\n"
        'gamma = 0.1\nregulariser = "l1"\n',
        encoding="utf-8",
    )
    done = tterec("tune", *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert complaint in done.stderr


def test_without_optuna_the_command_that_installs_it_is_named(
    shop: Database, tmp_path: Path
) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "optuna.py").write_text("raise ModuleNotFoundError(name='optuna')\n")
    path = os.pathsep.join([str(hidden), os.environ.get("PYTHONPATH", "")])
    done = tterec("tune", PYTHONPATH=path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "run: pip install 'tterec[tune]'" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
@pytest.mark.parametrize("after_the_first", [True, False])
def test_ctrl_c_writes_the_best_so_far_and_says_how_to_go_on(
    shop: Database, after_the_first: bool
) -> None:
    # Without an end, so that Ctrl-C comes in the middle of a trial.
    Path("fixed.toml").write_text(
        FIXED if after_the_first else "epochs = 10000\npatience = 10000\nthreads = 1\n"
    )
    with subprocess.Popen(
        [sys.executable, "-m", "tterec", "tune", "--config", "fixed.toml"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        if after_the_first:
            assert process.stderr is not None
            assert process.stderr.readline().startswith("trial 0 ")
        else:
            wait_for_a_trial(shop)
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in stderr
    if after_the_first:
        assert "Wrote train.toml." in stdout
        assert stderr.splitlines()[-1] == (
            "Stopped; the finished trials are kept; the same command goes on from there."
        )
        training_config(Path("train.toml"))
    else:
        assert (stdout, stderr) == ("", "Stopped; no trial was finished.\n")
        assert not Path("train.toml").exists()


def wait_for_a_trial(database: Database) -> None:
    deadline = time.monotonic() + 120
    with psycopg.connect(database.url, autocommit=True) as connection:
        while time.monotonic() < deadline:
            row = connection.execute("SELECT to_regclass('tterec_tune.trials')").fetchone()
            if row != (None,) and connection.execute("TABLE tterec_tune.trials").fetchone():
                return
            time.sleep(0.05)
    pytest.fail("no trial began")
