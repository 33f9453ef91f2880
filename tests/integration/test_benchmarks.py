"""Every benchmark that can be made small runs to its end; its figures mean nothing then."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tterec.database.connection import Database

WITH_DATABASE = [
    ("all_users", "--books=1200 --users=1200 --asked=1100 --dim=16", r"two stages: +\d+ users/s"),
    ("filters", "--books=3000", r"50\.0%  recommend: index"),
    ("lists", "--books=2000 --users=200 --sample=100 --rounds=1 --seconds=1", "by hand, titles"),
    ("serving", "--books=3000 --dim=16 --ef-search=40 --rounds=1", "12,860 ratings: p50"),
]
ALONE = [
    ("publish", "--items=1000 --users=500 --dim=16 --rounds=1", "publish .* ratio"),
    ("recommend_process", "--books=1000 --rounds=1", "dearest imports"),
    ("training", "--interactions=3000 --epochs=1 --threads=1", "bare matrix products"),
    ("update", "--books=300 --users=200 --arrivals=3", "p99"),
]


def ran(program: str, options: str, *more: str) -> str:
    """What it printed, once it ended as it should."""
    command = [sys.executable, "-m", f"tests.benchmarks.{program}", *options.split(), *more]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    missed = "MISSED" in done.stdout
    assert done.returncode == missed, (done.stdout, done.stderr)
    return done.stdout


@pytest.mark.parametrize(("program", "options", "said"), WITH_DATABASE)
def test_it_measures_in_a_database(
    database: Database, program: str, options: str, said: str
) -> None:
    printed = ran(program, options, f"--database-url={database.url}")
    assert re.search(said, printed), printed


@pytest.mark.parametrize(("program", "options", "said"), ALONE)
def test_it_measures_by_itself(program: str, options: str, said: str) -> None:
    printed = ran(program, options)
    assert re.search(said, printed), printed
