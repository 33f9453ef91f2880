"""How fast are everybody's lists, against a plain NumPy product and its best k?

    python -m tests.benchmarks.all_users [--database-url URL] [--books 270000] [--asked 6000]

Builds a shop of real size (see big_shop) with fewer users, and makes lists for some of them as
`tterec recommend --all -o FILE` does for all: without the second stage and with it. The plain way
has the same number of vectors as arrays, at the same number of threads: `U @ V.T`,
`argpartition` and the order of the k best, by 64 users at once, as more only take more memory. It
leaves out nothing that a user has met, and writes no file. Both are timed when the arrays are in
memory: reading them is shown apart, as it does not grow with the users.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks import big_shop
from tests.benchmarks.own_server import own_server
from tests.benchmarks.targets import Targets
from tests.benchmarks.training import peak_gigabytes
from tterec import Recommender
from tterec.cli import lists
from tterec.database.connection import Database
from tterec.records import Progress

K = 10
EVERYBODY = 280_000
PLAIN_USERS = 1_024
PLAIN_AT_ONCE = 64
TARGET = 0.5


def plain_seconds(users: NDArray[np.float32], items: NDArray[np.float32]) -> float:
    """Seconds a user of the plain way."""
    started = time.perf_counter()
    for start in range(0, len(users), PLAIN_AT_ONCE):
        scores = users[start : start + PLAIN_AT_ONCE] @ items.T
        best = np.argpartition(scores, -K, axis=1)[:, -K:]
        order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1)
        np.take_along_axis(best, order, axis=1)
    return (time.perf_counter() - started) / len(users)


def our_seconds(database: Database, file: Path, users: int, *, ranker: bool) -> tuple[float, float]:
    """Seconds until the first lists, and seconds a user of the others."""
    times: list[tuple[float, int]] = []

    def watch(progress: Progress) -> None:
        if progress.done:
            times.append((time.perf_counter(), progress.done))

    started = time.perf_counter()
    with Recommender(database) as recommender, lists.output(file) as out:
        lists.write_csv(out, lists.MANY, [])
        asked = range(1, users + 1)
        lists.write_many(out, recommender.recommend_many(asked, K, ranker=ranker, progress=watch))
    (first, begun), (last, done) = times[0], times[-1]
    if done == begun:
        sys.exit(f"all {done:,} lists came at once, which tells nothing; ask for more: --asked")
    return first - started, (last - first) / (done - begun)


def main() -> None:
    """Build what is missing, measure, print; exits with 1 below the target."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--database-url")
    parser.add_argument("--books", type=int, default=big_shop.Shop.books)
    parser.add_argument("--users", type=int, default=8_000)
    parser.add_argument("--asked", type=int, default=6_000, help="how many users have lists made")
    parser.add_argument("--dim", type=int, default=big_shop.Shop.dim)
    given = parser.parse_args()
    with ExitStack() as stack:
        url = given.database_url
        database = Database(url) if url else stack.enter_context(own_server())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        shop = big_shop.Shop(books=given.books, users=given.users, dim=given.dim)
        big_shop.ensure(database, shop)
        vectors = big_shop.trained_vectors(given.books, dim=given.dim)[0]
        items, users = vectors.item_embeddings, vectors.history_vectors[:PLAIN_USERS]
        threads = os.environ.get("OMP_NUM_THREADS", "all")
        print(f"{given.books:,} books, {given.dim} dimensions, threads: {threads}")
        ratios = []
        for name, ranker in (("one stage", False), ("two stages", True)):
            before = plain_seconds(users, items)
            reading, ours = our_seconds(database, folder / "lists.csv", given.asked, ranker=ranker)
            plain = (before + plain_seconds(users, items)) / 2
            ratios.append(plain / ours)
            print(
                f"{name:>10}: {1 / ours:6.0f} users/s, plain {1 / plain:6.0f}, "
                f"ratio {plain / ours:5.2f}; first lists after "
                f"{reading:4.1f} s; {EVERYBODY:,} users in {EVERYBODY * ours / 60:4.1f} min; "
                f"peak {peak_gigabytes():4.2f} GB"
            )
    targets = Targets()
    targets.at_least("users a second, one stage, over the plain way", ratios[0], TARGET)
    targets.end()


if __name__ == "__main__":
    main()
