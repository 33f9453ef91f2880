"""How long does `tterec update` take when 1%, 10% or all of the items have changed, and how long
until a worker has a new book in the lists?

    python -m tests.benchmarks.update [--books 20000] [--users 5000] [--arrivals 200]

Builds the generated bookshop on a server of its own, with Postgres's default settings, and trains
one epoch. A worker runs as a process of its own, and books are committed one after the other while
ratings come in beside; each is timed from its commit to the first `tterec.recommend()` that has
it. Then each update is compared with publishing a whole generation anew (embedding, COPY, keys,
HNSW index), which is what training does at its end.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from tests.benchmarks.own_server import own_server
from tests.benchmarks.targets import Targets
from tterec import pipeline, updating
from tterec.bookshop import open_bookshop
from tterec.config import TrainingConfig
from tterec.database.connection import Connection, Database
from tterec.store import generations, reading, sources

SHARES = (0.0, 0.01, 0.1, 1.0)
MOST_SECONDS = 1.0


def build(database: Database, books: int, users: int) -> None:
    """A shop with a live generation."""
    pipeline.upgrade(database)
    with tempfile.TemporaryDirectory() as folder:
        shop = open_bookshop(0, users=users, books=books)
        of_users, of_books, of_ratings = shop.write_csv(Path(folder))
        pipeline.load(database, users=of_users, books=of_books, ratings=of_ratings)
    trained = pipeline.train(database, TrainingConfig(epochs=1, threads=1))
    ranked = trained.metrics.get("validation_ndcg_at_20_ranker", 0)
    second = ranked > trained.metrics["validation_ndcg_at_20"]
    print(
        f"{trained.counts['items']:,} books, {trained.counts['users']:,} users, "
        f"{trained.counts['interactions']:,} ratings, "
        f"{'with' if second else 'without'} a second stage",
        flush=True,
    )


def update(database: Database, share: float) -> float:
    """Change this share of the books. Returns the seconds that the update takes."""
    with database.connect() as connection:
        connection.execute(
            "UPDATE tterec.books SET year = coalesce(year, 1990) + 1, author = author || '.'"
            " WHERE hashint8(book_id) & 1023 < 1024 * %s",
            (share,),
        )
    start = time.perf_counter()
    done = updating.update(database)
    seconds = time.perf_counter() - start
    print(f"{share:4.0%} changed: {done.items.changed:6,} books, {seconds:6.2f} s", flush=True)
    return seconds


def publish(database: Database) -> float:
    """Seconds to embed and publish everything anew."""
    towers = pipeline.load_towers(database)
    with (
        database.connect(autocommit=True) as guard,
        database.connect(autocommit=True) as connection,
    ):
        start = time.perf_counter()
        queries = sources.chosen(guard, {})
        data = reading.read_sources(guard, queries)
        vectors = towers.publish(
            data.items,
            towers.item_features.encode(data.items),
            data.users,
            towers.user_features.encode(data.users),
        )
        generation = generations.begin(guard, TrainingConfig(), queries, data.kinds)
        generations.publish_vectors(connection, generation, vectors, data=data)
        seconds = time.perf_counter() - start
        generations.fail(connection, generation)
    print(f"all published anew, without training: {seconds:.2f} s", flush=True)
    return seconds


def rate(connection: Connection, stop: threading.Event, books: int) -> None:
    """Ratings, ten a second."""
    draw = np.random.default_rng(1)
    while not stop.wait(0.1):
        connection.execute(
            "INSERT INTO tterec.ratings SELECT user_id, book_id, 8 FROM"
            " (SELECT user_id FROM tterec.users OFFSET %s LIMIT 1) u,"
            " (SELECT book_id FROM tterec.books OFFSET %s LIMIT 1) b ON CONFLICT DO NOTHING",
            (int(draw.integers(1000)), int(draw.integers(books))),
        )


def arrivals(database: Database, count: int, books: int) -> list[float]:
    """Seconds from the commit of each of so many books to the first list that has it."""
    with database.connect() as connection:
        (reader,) = connection.execute(
            "SELECT user_id FROM tterec.ratings GROUP BY 1 ORDER BY count(*) DESC, 1 LIMIT 1"
        ).fetchone() or (1,)
    worker = subprocess.Popen(
        [sys.executable, "-m", "tterec", "worker", "--poll", "1"],
        env={**os.environ, "TTEREC_DATABASE_URL": database.url},
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    assert worker.stderr is not None
    print(worker.stderr.readline(), end="", flush=True)
    stop, seconds = threading.Event(), []
    with (
        database.connect(autocommit=True) as connection,
        database.connect(autocommit=True) as beside,
    ):
        rating = threading.Thread(target=rate, args=(beside, stop, books))
        rating.start()
        for number in range(count):
            # A copy of the reader's best book is as near to the reader as that.
            connection.execute(
                "INSERT INTO tterec.books (isbn, title, author, publisher, year)"
                " SELECT %s, title, author, publisher, year FROM tterec.books"
                " WHERE book_id = (SELECT book_id FROM tterec.recommend(%s, 1))",
                (f"arrival-{number}", reader),
            )
            start = time.perf_counter()
            while True:
                found = connection.execute(
                    "SELECT 1 FROM tterec.recommend(%s, 1000) WHERE isbn = %s",
                    (reader, f"arrival-{number}"),
                ).fetchone()
                if found or time.perf_counter() - start > 30:
                    break
            seconds.append(time.perf_counter() - start)
        stop.set()
        rating.join()
    worker.terminate()
    print(f"the worker ended with {worker.wait()}")
    return seconds


def main() -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--books", type=int, default=20_000)
    parser.add_argument("--users", type=int, default=5_000)
    parser.add_argument("--arrivals", type=int, default=200)
    given = parser.parse_args()
    with own_server() as database:
        build(database, given.books, given.users)
        waited = np.array(arrivals(database, given.arrivals, given.books))
        print(
            f"{len(waited)} new books, from commit to a list: p50 {np.median(waited):.3f} s, "
            f"p99 {np.quantile(waited, 0.99):.3f} s, most {waited.max():.3f} s",
            flush=True,
        )
        whole = publish(database)
        updating.update(database)
        for share in SHARES:
            seconds = update(database, share)
            print(f"      {seconds / whole:.2f} of a full publish", flush=True)
    targets = Targets()
    targets.at_most("p99 of a new book", float(np.quantile(waited, 0.99)), MOST_SECONDS, "s")
    targets.end()


if __name__ == "__main__":
    main()
