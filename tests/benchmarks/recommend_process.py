"""How much longer does `tterec recommend 123` take than the least a Python process can do?

    python -m tests.benchmarks.recommend_process [--database-url URL] [--rounds 15]

Interleaves whole processes: the command, and a bare one that imports psycopg and NumPy, connects
to the same running server and runs one index query. Then shows which imports cost the most.
Without a URL a small shop is built on a server of its own.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path

from tests.benchmarks import big_shop
from tests.benchmarks.own_server import own_server
from tests.benchmarks.targets import Targets
from tterec.database.connection import Database

TARGET = 1.5
USER = 1

BARE = """
import sys
import numpy
import psycopg
with psycopg.connect(sys.argv[1]) as connection:
    rows = connection.execute(sys.argv[2], (sys.argv[3], sys.argv[3])).fetchall()
for row in rows:
    print(*row)
"""


def seconds(command: list[str], environment: dict[str, str]) -> float:
    """How long the process takes; it must succeed."""
    start = time.perf_counter()
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def measure(database: Database, rounds: int) -> float:
    """Print medians and the dearest imports. Returns the ratio of the medians."""
    with database.connect() as connection:
        row = connection.execute(
            "SELECT generation, tterec.user_vector(%s)::text FROM tterec.active_model", (USER,)
        ).fetchone()
    if row is None:
        sys.exit("no generation is live there; run: tterec train")
    query = (
        "SELECT c.isbn, c.title, v.embedding <#> %s::vector"
        f" FROM tterec.item_vectors_{row[0]} v JOIN tterec.catalogue c USING (item_id)"
        " ORDER BY v.embedding <#> %s::vector LIMIT 10"
    )
    bare = [sys.executable, "-c", BARE, database.url, query, row[1]]
    script = Path(sys.executable).with_name("tterec")
    ours = [str(script)] if script.is_file() else [sys.executable, "-m", "tterec"]
    ours += ["recommend", str(USER)]
    environment = os.environ | {"TTEREC_DATABASE_URL": database.url}
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(rounds + 1):
        both = seconds(bare, environment), seconds(ours, environment)
        if number:  # the first warms the page cache
            times[0].append(both[0])
            times[1].append(both[1])
    medians = [statistics.median(measured) for measured in times]
    print(f"bare {1000 * medians[0]:.0f} ms, tterec recommend {1000 * medians[1]:.0f} ms")
    traced = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "tterec", *ours[-2:]],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    costs = re.findall(r"import time:\s+(\d+) \|\s+(\d+) \| (\s*)(\S+)", traced.stderr)
    dearest = sorted(costs, key=lambda cost: -int(cost[1]))[:25]
    print("dearest imports, with what they import (ms):")
    for _, total, _, name in dearest:
        print(f"  {int(total) / 1000:7.1f}  {name}")
    return medians[1] / medians[0]


def main() -> None:
    """Measure the given server, or one with a small shop."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--database-url")
    parser.add_argument("--books", type=int, default=30_000, help="of the small shop")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    if arguments.database_url:
        ratio = measure(Database(arguments.database_url), arguments.rounds)
    else:
        with own_server() as database:
            big_shop.ensure(
                database, big_shop.Shop(books=arguments.books, users=300, ef_search=100)
            )
            ratio = measure(database, arguments.rounds)
    targets = Targets()
    targets.at_most("time of the process over bare Python's", ratio, TARGET)
    targets.end()


if __name__ == "__main__":
    main()
