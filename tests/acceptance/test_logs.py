"""`--log-format json`: every line on stderr is an object; what goes to stdout stays as it is."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_train import SHOP
from tterec.database.connection import Database

SECRET = "hunter2"


def tterec(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tterec", *arguments],
        env={**os.environ, "TTEREC_DATABASE_URL": "postgresql://127.0.0.1:1/nowhere", **variables},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def objects(stderr: str) -> list[dict[str, Any]]:
    """Every line as an object, with what each of them has."""
    found = [json.loads(line) for line in stderr.splitlines()]
    for one in found:
        at = datetime.fromisoformat(one["time"])
        assert at.utcoffset() is not None
        assert not at.utcoffset()
        assert one["level"] in ("info", "warning", "error")
        assert one["event"]
    assert "\x1b" not in stderr
    return found


@pytest.fixture
def shop(database: Database) -> Database:
    with database.connect() as connection:
        connection.execute(SHOP)
    return database


def test_a_training_is_a_line_an_event(shop: Database) -> None:
    done = tterec(
        "train", "--log-format", "json", "--dim", "8", "--epochs", "2",
        TTEREC_DATABASE_URL=shop.url,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Generation 1 is live: softmax, 8 dimensions")
    found = objects(done.stderr)
    assert {one["command"] for one in found} == {"train"}
    assert [one["message"][:7] for one in found if one["event"] == "message"][:2] == [
        "epoch 1",
        "epoch 2",
    ]
    stages = {one["stage"]: one["seconds"] for one in found if one["event"] == "stage"}
    assert [*stages] == [
        "read sources",
        "train towers",
        *(["second stage"] if "second stage" in stages else []),
        "write vectors",
        "build index",
        "write the rest",
        "check recall",
        "promote",
    ]
    assert all(seconds >= 0 for seconds in stages.values())
    steps = [one for one in found if one["event"] == "progress" and one["stage"] == "train"]
    assert steps
    assert all(0 <= one["done"] <= one["total"] for one in steps)
    assert {"event": "generation", "generation": 1, "live": True}.items() <= found[-2].items()
    assert (found[-1]["event"], found[-1]["exit"]) == ("done", 0)
    assert found[-1]["seconds"] >= sum(stages.values()) * 0.9
    shown = json.loads(
        tterec("models", "show", "1", "--format", "json", TTEREC_DATABASE_URL=shop.url).stdout
    )
    assert shown["metrics"]["stages"] == pytest.approx(stages, abs=0.002)
    table = tterec("models", "show", "1", TTEREC_DATABASE_URL=shop.url).stdout
    assert "stages" in table
    assert "build index: " in table


def test_lists_indexes_and_the_worker_log_their_stages(shop: Database, tmp_path: Path) -> None:
    url = {"TTEREC_DATABASE_URL": shop.url, "TTEREC_LOG_FORMAT": "json"}
    assert tterec("train", "--dim", "8", "--epochs", "1", **url).returncode == 0
    for arguments, expected in (
        (["worker", "--once"], ["compare items", "update items", "count popularity"]),
        (["recommend", "--all", "-o", str(tmp_path / "lists.csv")], ["read vectors", "make lists"]),
        (["bench-index", "--index", "pgvector", "--users", "3"], ["read vectors", "draw users"]),
    ):
        done = tterec(*arguments, **url)
        assert done.returncode == 0, done.stderr
        found = objects(done.stderr)
        stages = [one for one in found if one["event"] == "stage"]
        assert [one["stage"] for one in stages][: len(expected)] == expected
        assert all(one["seconds"] >= 0 for one in stages)
        assert found[-1]["event"] == "done"
        steps = [
            one for one in found if one["event"] == "progress" and one["stage"] == "make lists"
        ]
        if "--all" in arguments:
            assert steps[-1]["done"] == steps[-1]["total"] > 0


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["--log-format", "json", "recommend", "1"], "recommend"),
        (["recommend", "1", "--log-format", "json"], "recommend"),
        (["models", "list", "--log-format=json"], "models list"),
    ],
)
def test_an_error_is_an_object_without_secrets(arguments: list[str], command: str) -> None:
    url = f"postgresql://ada:{SECRET}@127.0.0.1:1/nowhere"
    done = tterec(*arguments, TTEREC_DATABASE_URL=url)
    assert (done.returncode, done.stdout) == (1, "")
    (error,) = objects(done.stderr)
    assert (error["level"], error["event"], error["exit"]) == ("error", "error", 1)
    assert error["command"] == command
    assert "cannot connect to" in error["message"]
    assert SECRET not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [["nope"], ["--nope"], ["recommend", "--nope"], ["models", "promote", "first"], ["load"]],
    ids=" ".join,
)
def test_wrong_usage_is_an_object_and_exits_2(arguments: list[str]) -> None:
    done = tterec(*arguments, TTEREC_LOG_FORMAT="json")
    assert (done.returncode, done.stdout) == (2, "")
    (error,) = objects(done.stderr)
    assert (error["level"], error["exit"]) == ("error", 2)
    assert error["message"]


def test_the_flag_is_before_the_environment_and_an_unknown_one_is_refused() -> None:
    done = tterec("recommend", "1", "--log-format", "text", TTEREC_LOG_FORMAT="json")
    assert done.stderr.startswith("Error: cannot connect")
    done = tterec("recommend", "1", "--log-format", "xml")
    assert done.returncode == 2
    assert "'xml' is not one of 'text', 'json'" in done.stderr
    done = tterec("recommend", "1", TTEREC_LOG_FORMAT="xml")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("Error: TTEREC_LOG_FORMAT 'xml' is unknown")
    shown = tterec("config", "show", TTEREC_LOG_FORMAT="json").stdout
    assert any(line.split() == ["log_format", "json", "TTEREC_LOG_FORMAT"]
               for line in shown.splitlines())  # fmt: skip


def test_data_stay_as_they_are_and_words_about_them_are_events(shop: Database) -> None:
    plain, logged = (
        tterec("recommend", "1", "--format", "json", *more, TTEREC_DATABASE_URL=shop.url)
        for more in ([], ["--log-format", "json"])
    )
    assert plain.stdout == logged.stdout
    assert json.loads(logged.stdout)
    said = objects(logged.stderr)
    assert [one["message"] for one in said if "message" in one] == plain.stderr.splitlines()
    assert said[-1]["event"] == "done"


def test_what_doctor_finds_is_its_data_and_that_it_found_something_an_error(
    empty_database: Database,
) -> None:
    done = tterec("doctor", "--log-format", "json", TTEREC_DATABASE_URL=empty_database.url)
    assert done.returncode == 1
    assert "problem: " in done.stdout
    (error,) = objects(done.stderr)
    assert (error["level"], error["message"], error["exit"]) == ("error", "2 problems found", 1)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_being_stopped_is_an_event(shop: Database, tmp_path: Path) -> None:
    settings = tmp_path / "train.toml"
    settings.write_text("dim = 8\nepochs = 10000\npatience = 10000\n")
    with subprocess.Popen(
        [sys.executable, "-m", "tterec", "--log-format", "json", "train", "--config", settings],
        env={**os.environ, "TTEREC_DATABASE_URL": shop.url},
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        assert process.stderr is not None
        lines = []
        while not lines or '"epoch 2 ' not in lines[-1]:
            lines.append(process.stderr.readline())
            assert lines[-1], lines
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
    found = objects("".join(lines) + rest)
    assert process.returncode == 143
    assert found[-1]["event"] == "stopped"
    assert found[-1]["level"] == "warning"
    assert found[-1]["exit"] == 143
    assert found[-1]["message"] == "Stopped; nothing was published."
    # Thousands of steps are not thousands of lines.
    assert sum(one["event"] == "progress" for one in found) < 100
