"""How much memory does training take for one more interaction?

    python -m tests.benchmarks.memory [--interactions 1000000 4000000] [--users 100000]
                                      [--items 2000] [--in-files]

Trains twice from a Postgres server of its own, from reading to publishing, each time in a process
of its own: on fewer and on more interactions of the same users with the same items. Prints the
difference of the two peaks, divided by that of the interactions: what the tables and torch take is
in both. `--in-files` lets no array of interactions be in memory, as if none fitted, and counts what
is held beside files alone (Linux).
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import threading
from pathlib import Path

from tests.benchmarks.own_server import own_server
from tests.benchmarks.training import peak_gigabytes
from tterec import arrays, pipeline
from tterec.config import TrainingConfig
from tterec.database.connection import Database

# One wide step after the other: the memory of an epoch is that of its order, not of its steps.
CONFIG = TrainingConfig(dim=8, epochs=1, batch_size=65_536, threads=1)

MET = """
CREATE TABLE public.met AS
SELECT user_id, item_id,
       (CASE WHEN random() < 0.6 THEN 1 + floor(random() * 10) END)::real AS rating,
       now() - random() * '900 days'::interval AS rated_at
FROM (
    SELECT DISTINCT u AS user_id, floor({items} * random() ^ 1.5)::int AS item_id
    FROM generate_series(1, {users}) u,
         generate_series(1, ceil(0.5 * {each} / sqrt(u / {users}.0))::int)
) pairs
ORDER BY random()
"""
QUERIES = {
    "interactions": "SELECT user_id, item_id, rating, rated_at FROM public.met",
    "users": "SELECT u AS user_id, u % 60 + 10 AS age FROM generate_series(1, {users}) u",
    "items": (
        "SELECT i AS item_id, 'author ' || i % ({items} / 3) AS author"
        " FROM generate_series(0, {items} - 1) i"
    ),
}


def trained(url: str, queries: dict[str, Path], in_files: bool) -> float:
    """Train once; the most memory that this process has held, in bytes."""
    held = [0.0]
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
            anonymous = next(line for line in lines if line.startswith("RssAnon"))
            held.append(int(anonymous.split()[1]) * 1024.0)

    if in_files:
        arrays.SHARE = 2**60
        threading.Thread(target=watch, daemon=True).start()
    pipeline.train(Database(url), CONFIG, queries, promote=False, accept_new_types=True)
    done.set()
    return max(held) if in_files else peak_gigabytes() * 1e9


def too_alike(users: int, interactions: int) -> str:
    """What to say where the second table is no larger than the first."""
    return (
        f"the second size gives {users:,} users no more than the first, {interactions:,} "
        "interactions; ask for larger --interactions in ascending order, or for fewer --users"
    )


def main() -> None:
    """Train twice and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--interactions", type=int, nargs=2, default=[1_000_000, 4_000_000])
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--items", type=int, default=2_000)
    parser.add_argument("--in-files", action="store_true")
    options = parser.parse_args()
    each = [max(wanted // options.users, 1) for wanted in options.interactions]
    if each[1] <= each[0]:
        parser.error(too_alike(options.users, each[0] * options.users))
    found: list[tuple[int, float]] = []
    with own_server() as database, tempfile.TemporaryDirectory() as folder:
        pipeline.upgrade(database)
        queries = {name: Path(folder) / f"{name}.sql" for name in QUERIES}
        for name, path in queries.items():
            text = QUERIES[name].format(users=options.users, items=options.items)
            path.write_text(text, encoding="utf-8")
        for of_user in each:
            with database.connect() as connection:
                connection.execute("DROP TABLE IF EXISTS public.met")
                connection.execute(
                    MET.format(users=options.users, items=options.items, each=of_user).encode()
                )
                row = connection.execute("SELECT count(*) FROM public.met").fetchone()
            assert row is not None
            if found and row[0] <= found[0][0]:
                parser.error(too_alike(options.users, row[0]))
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                peak = pool.apply(trained, (database.url, queries, options.in_files))
            found.append((row[0], peak))
            print(f"{row[0]:,} interactions: peak {peak / 1e9:.2f} GB", flush=True)
    (fewer, low), (more, high) = found
    if high <= low:
        sys.exit("what the libraries take hides the tables; ask for larger --interactions")
    print(f"{(high - low) / (more - fewer):.0f} bytes for one more interaction")


if __name__ == "__main__":
    main()
