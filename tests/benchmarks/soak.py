"""Does a shop stay right while everything happens to it at once?

    python -m tests.benchmarks.soak [--minutes 10] [--workers 2] [--database-url URL]

Three writers insert and delete ratings and books; four readers ask for lists: two a statement at
a time, one in repeatable-read transactions, one by tterec.Recommender; one process promotes, rolls
back and prunes generations and publishes fresh ones; `tterec worker`s embed the new books. Every
list is judged by the rows of its own snapshot, and computed again from the vectors of the live
generation. Faults, and this program fails: an error of any kind; a list of two generations, or of
one that is not live; a rated book; fewer rows than exist; a reader who waits for a lock, or for
an answer, for a second; a new book that takes longer than a second at p99.
"""

from __future__ import annotations

import argparse
import sys
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from tests.benchmarks import soak_actors as actors
from tests.benchmarks.own_server import own_server
from tests.benchmarks.soak_actors import Shop
from tterec import pipeline
from tterec.database.connection import Database

LIMIT = 1.0  # seconds that nobody may be blocked
PATIENCE = 10.0  # seconds after the end in which the last new books must have their effect


@dataclass(frozen=True)
class Report:
    """What a soak found. Times in seconds: of each reader's calls, of its longest wait for a
    lock, of each new book until its effect. unseen: new books that never had one."""

    calls: Mapping[str, Sequence[float]]
    waits: Mapping[str, float]
    delays: Sequence[float]
    unseen: int
    counts: Counter[str]
    faults: Sequence[str]

    @property
    def slow(self) -> list[str]:
        """Calls that took too long, by whatever cause: on a busy machine, too few processors."""
        longest = {name: max(times, default=0.0) for name, times in self.calls.items()}
        found = late(longest, LIMIT, "waited for an answer")
        if self.delays and np.quantile(self.delays, 0.99) > LIMIT:
            found.append(f"new books take {figures(self.delays)}")
        return found

    def lines(self) -> list[str]:
        """For people."""
        return [
            *(f"{name}: {len(x):,} calls, {figures(x)}" for name, x in sorted(self.calls.items())),
            f"longest wait for a lock: {max(self.waits.values(), default=0):.3f} s",
            f"new books until their effect: {len(self.delays):,}, {figures(self.delays)}",
            ", ".join(f"{number:,} {name}" for name, number in sorted(self.counts.items())),
        ]


def figures(seconds: Sequence[float]) -> str:
    """Percentiles in milliseconds."""
    if not len(seconds):
        return "none"
    p50, p99, longest = 1000 * np.quantile(seconds, [0.5, 0.99, 1])
    return f"p50 {p50:.1f}, p99 {p99:.1f}, longest {longest:.1f} ms"


def late(seconds: Mapping[str, float], limit: float, what: str) -> list[str]:
    """Those that took longer than the limit, in words."""
    return [f"{name} {what} for {x:.2f} s" for name, x in seconds.items() if x > limit]


def soak(
    database: Database,
    seconds: float,
    *,
    workers: int = 0,
    books: int = 600,
    publish_every: float = 5,
    seed: int = 0,
    most_faults: int = 20,
) -> Report:
    """Plant a shop in an empty database that has the schema, and let everybody loose on it.

    Without workers, generations are made up; with them they are trained, as workers embed. After
    `most_faults` it ends early.
    """
    shop = Shop(database, books, seed, trained=workers > 0, most_faults=most_faults)
    actors.plant(shop)
    tasks = [
        *((actors.write, n) for n in (1, 2, 3)),
        *((actors.read, n) for n in (4, 5)),
        (actors.read_repeatably, 6),
        (actors.read_in_python, 7),
        (actors.promote, 8, publish_every),
        (actors.watch_locks,),
    ]
    if workers:
        tasks.append((actors.watch_books, PATIENCE))
    threads = [
        threading.Thread(target=actors.guarded, args=(shop, *task), daemon=True) for task in tasks
    ]
    with actors.workers(shop, workers):
        for thread in threads:
            thread.start()
        shop.over.wait(seconds)
        shop.over.set()
        for thread in threads:
            thread.join(timeout=120)
            if thread.is_alive():
                shop.fault(f"{thread.name} does not end")
    found = [*shop.faults, *late(shop.waits, LIMIT, "waited for a lock")]
    if shop.unseen:
        found.append(f"{shop.unseen} new books had no effect within {PATIENCE:.0f} s")
    return Report(shop.calls, shop.waits, shop.delays, shop.unseen, shop.counts, found)


def main() -> None:
    """Soak, print, and fail if anything was wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--books", type=int, default=5000)
    parser.add_argument("--publish-every", type=float, default=20, metavar="SECONDS")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--database-url", help="An empty database. Default: a server of its own.")
    arguments = parser.parse_args()
    with ExitStack() as stack:
        url = arguments.database_url
        database = Database(url) if url else stack.enter_context(own_server())
        pipeline.upgrade(database)
        report = soak(
            database,
            60 * arguments.minutes,
            workers=arguments.workers,
            books=arguments.books,
            publish_every=arguments.publish_every,
            seed=arguments.seed,
        )
    print(*report.lines(), sep="\n")
    wrong = [*report.faults, *report.slow]
    print(*(f"FAULT {one}" for one in wrong), "No fault." if not wrong else "", sep="\n")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
