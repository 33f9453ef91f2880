"""Memory is measured between two sizes, which must differ."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize("sizes", [("1000", "1500"), ("5000", "5000"), ("9000", "2000")])
def test_sizes_that_give_one_table_are_refused_before_anything_starts(
    sizes: tuple[str, str],
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.memory", "--users=1000", "--interactions", *sizes],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "no more than the first" in done.stderr.splitlines()[-1]


def test_tables_that_the_libraries_hide_have_no_size() -> None:
    sizes = ["--users=1000", "--items=200", "--interactions", "3000", "30000"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.memory", *sizes],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 2
    assert done.stderr.endswith("ask for larger --interactions\n")
