"""How long does `tterec train` with its defaults take, and how much memory at its peak?

    python -m tests.benchmarks.train_command [--data DIR] [-- OPTIONS OF tterec train]

DIR holds a users, a books and a ratings file of the Book-Crossing dataset (`*Users*`, `*Books*`,
`*Ratings*`); without it, files of a similar size are generated. They are loaded into a server of
its own; then the whole command runs, process start, publishing and promotion included.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks import load as loading
from tests.benchmarks.own_server import own_server
from tests.benchmarks.targets import Targets
from tterec import pipeline
from tterec.database.connection import Database

MOST_SECONDS = 300
MOST_MEGABYTES = 2560


def train(database: Database, options: list[str]) -> tuple[float, float]:
    """Run the command, its lines passing through. Returns seconds and peak memory in MB."""
    start = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, "-c", loading.COMMAND, "train", *options],
        env={**os.environ, "TTEREC_DATABASE_URL": database.url},
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:
            lines.append(line)
            print(f"{time.perf_counter() - start:6.1f} s  {line}", end="", flush=True)
    if process.returncode:
        sys.exit(process.returncode)
    return time.perf_counter() - start, int(lines[-1]) / 1024


def main() -> None:
    """Load, train, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder with the three CSV files")
    parser.add_argument("options", nargs="*", help="options of tterec train, after --")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as generated, own_server() as database:
        folder = arguments.data
        if folder is None:
            folder = Path(generated)
            loading.generate(folder)
        pipeline.upgrade(database)
        pipeline.load(database, **loading.found(folder))
        seconds, megabytes = train(database, arguments.options)
    targets = Targets()
    targets.at_most("tterec train", seconds, MOST_SECONDS, "s")
    targets.at_most("its memory at the peak", megabytes, MOST_MEGABYTES, "MB")
    targets.end()


if __name__ == "__main__":
    main()
