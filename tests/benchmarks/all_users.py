"""How fast are everybody's lists, against a plain NumPy product and its best k?

    python -m tests.benchmarks.all_users [--database-url URL] [--books 270000] [--users 4000]

Builds a generated shop (a database given by URL keeps it, otherwise it is on a server of its own
that goes again), and makes the lists of all its users as `tterec recommend --all -o FILE` does: with
the second stage and without, into a file. The plain way has the same vectors as arrays, at the
same number of threads: `U @ V.T`, `argpartition`, and the order of the k, by as many users at
once. It leaves out what a user has met as little as it knows their names. Both are timed once
the arrays are in memory: reading them is shown apart, as it does not grow with the users.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.serving import DIM, own_server, shop
from tests.benchmarks.training import peak_gigabytes
from tests.integration import generations
from tterec import Recommender, bulk_lists, pipeline
from tterec.cli import lists
from tterec.database.connection import Connection, Database
from tterec.records import Progress, Ranker

K = 10
RATINGS = 20
TARGET = 0.5
WEIGHTS = 30
LEADS = 10


def ranker(genres: NDArray[np.int64], seed: int = 3) -> Ranker:
    """A second stage of the shape of a fitted one: 30 weights and 10 leads a book, its genre's."""
    random = np.random.default_rng(seed)
    books = len(genres)
    by_genre = np.argsort(genres, kind="stable")
    firsts = np.searchsorted(genres[by_genre], genres)
    sizes = np.bincount(genres)[genres]
    spots = random.integers(0, 2**31, (books, WEIGHTS)) % sizes[:, None]
    sources = np.sort(by_genre[firsts[:, None] + spots], axis=1)
    fresh = np.column_stack([np.ones(books, bool), np.diff(sources, axis=1) > 0])
    leads = by_genre[firsts[:, None] + random.integers(0, 2**31, (books, LEADS)) % sizes[:, None]]
    return Ranker(
        item_ids=np.arange(1, books + 1),
        offsets=np.concatenate([[0], np.cumsum(fresh.sum(axis=1))]),
        sources=sources[fresh],
        weights=random.gamma(1.0, 0.03, int(fresh.sum())).astype(np.float32),
        leads=leads + 1,
        width=books,
        trait_offsets=np.zeros(books + 1, dtype=np.int64),
        traits=np.zeros(0, dtype=np.int64),
        similarity_weight=0.3,
        unrated_weight=0.7,
        candidates=200,
    )


def build(connection: Connection, books: int, users: int) -> None:
    """Books, users with 20 ratings each, and a live generation with a second stage."""
    random = np.random.default_rng(1)
    vectors, genres = shop(books)
    generations.plant_books(connection, books)
    connection.execute("INSERT INTO tterec.users SELECT generate_series(1, %s)", (users,))
    rated = np.sort(random.integers(1, books - RATINGS, (users, RATINGS))) + np.arange(RATINGS)
    with connection.cursor().copy(
        "COPY tterec.ratings (user_id, book_id, rating, rated_at) FROM STDIN"
    ) as copy:
        for user, items in enumerate(rated.tolist(), start=1):
            for item in items:
                copy.write_row((user, item, 1 + item % 10, "2024-01-01"))
    generations.plant(connection, vectors, ranker=ranker(genres))
    connection.commit()
    connection.autocommit = True
    connection.execute("VACUUM ANALYZE")
    connection.autocommit = False


def plain_seconds(users: NDArray[np.float32], items: NDArray[np.float32], at_once: int) -> float:
    """Seconds of the plain way."""
    started = time.perf_counter()
    for start in range(0, len(users), at_once):
        scores = users[start : start + at_once] @ items.T
        best = np.argpartition(scores, -K, axis=1)[:, -K:]
        rows = np.arange(len(best))[:, None]
        np.take_along_axis(best, np.argsort(-scores[rows, best], axis=1), axis=1)
    return time.perf_counter() - started


def our_seconds(database: Database, file: Path, ranked: bool) -> tuple[float, float, int]:
    """Seconds until the first batch, seconds of the other batches, and the users in these."""
    times: list[tuple[float, int]] = []

    def watch(progress: Progress) -> None:
        times.append((time.perf_counter(), progress.done))

    started = time.perf_counter()
    with Recommender(database) as recommender, lists.output(file) as out:
        found = recommender.recommend_many(None, K, ranker=ranked, progress=watch)
        lists.write_many(out, found)
    (first, begun), (last, done) = times[0], times[-1]
    return first - started, last - first, done - begun


def main() -> None:
    """Build what is missing, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database-url")
    parser.add_argument("--books", type=int, default=270_000)
    parser.add_argument("--users", type=int, default=4_000)
    options = parser.parse_args()
    with ExitStack() as stack:
        url = options.database_url
        database = Database(url) if url else stack.enter_context(own_server())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        pipeline.upgrade(database)
        with database.connect() as connection:
            if connection.execute("SELECT count(*) FROM tterec.books").fetchone() == (0,):
                build(connection, options.books, options.users)
        measure(database, folder / "lists.csv")


def measure(database: Database, file: Path) -> None:
    """Print the plain way's speed, then ours, and raise SystemExit below the target."""
    with database.connect() as connection:
        from tterec.retrieval import pgvector

        model = pgvector.live_model(connection)
        assert model is not None
        items = pgvector.all_item_vectors(connection, model)[1]
    random = np.random.default_rng(4)
    count = 1_000
    users = items[random.choice(len(items), count)] + 0.1 * random.normal(size=(count, DIM))
    vectors = users.astype(np.float32)
    at_once = bulk_lists.users_at_once(len(items))
    ratios = []
    for ranked in (False, True):
        plain = plain_seconds(vectors, items, at_once) / count
        reading, seconds, done = our_seconds(database, file, ranked)
        plain = (plain + plain_seconds(vectors, items, at_once) / count) / 2
        ours = seconds / done
        ratios.append(plain / ours)
        print(
            f"{'two stages' if ranked else 'towers':>10}: {1 / ours:5.0f} users/s, "
            f"plain {1 / plain:5.0f}, ratio {plain / ours:4.2f}; reading {reading:4.1f} s; "
            f"peak {peak_gigabytes():4.2f} GB; 280,000 users in {280_000 * ours / 60:3.0f} min"
        )
    if ratios[0] < TARGET:
        raise SystemExit(f"slower than {TARGET} of the plain product")


if __name__ == "__main__":
    main()
