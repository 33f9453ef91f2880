"""How much slower is tterec.recommend() than the bare index query it is made of?

    python -m tests.benchmarks.serving [--database-url URL] [--books 270000]

Builds a generated shop (a database given by URL keeps it, otherwise it is on a server of its own
that goes again), then asks both, interleaved, over one
connection: `tterec.recommend(user)` and the bare `ORDER BY embedding <#> $1 LIMIT 10` with the
same ef_search and the same join for the titles, each as a prepared statement. The two are asked
about different users each time, so that neither finds the pages that the other has just read.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.integration import generations
from tterec import pipeline
from tterec.database import system_user
from tterec.database.cluster import Cluster
from tterec.database.connection import Connection, Database
from tterec.records import TrainedVectors

DIM = 64
HISTORIES = {"20 ratings": (20, 300), "200 ratings": (200, 50), "2,000 ratings": (2_000, 10)}
HEAVIEST = {"12,860 ratings": (12_860, 2)}
TARGET = 2.0


def unit(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows divided by their norms."""
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


def shop(books: int, seed: int = 0) -> tuple[TrainedVectors, NDArray[np.int64]]:
    """Vectors like trained ones, and each book's genre.

    Genres of Zipf size round centres whose spectrum decays; a book's cosine with its genre's
    centre is some 0.75, and history vectors point where the embeddings do.
    """
    random = np.random.default_rng(seed)
    spectrum = np.arange(1, DIM + 1) ** -0.35
    centres = unit(random.normal(size=(600, DIM)) * spectrum)
    sizes = np.arange(1, 601) ** -0.7
    genres = random.choice(600, size=books, p=sizes / sizes.sum())
    noise = unit(random.normal(size=(books, DIM)) * spectrum)
    items = unit(centres[genres] + 0.9 * noise)
    history = items + 0.3 * unit(random.normal(size=(books, DIM)))
    return (
        TrainedVectors(
            item_ids=np.arange(1, books + 1),
            item_embeddings=items.astype(np.float32),
            history_vectors=history.astype(np.float32),
            user_ids=np.zeros(0, dtype=np.int64),
            profile_vectors=np.zeros((0, DIM), dtype=np.float32),
            default_profile=(random.normal(size=DIM) * 0.05).astype(np.float32),
            history_weights=generations.HISTORY_WEIGHTS,
            normalised=True,
            max_history=200,
        ),
        genres,
    )


def build(connection: Connection, books: int, ef_search: int) -> None:
    """Books, users with each length of history, and a live generation."""
    random = np.random.default_rng(1)
    vectors, genres = shop(books)
    generations.plant_books(connection, books)
    user = 0
    for ratings, users in (HISTORIES | HEAVIEST).values():
        for _ in range(users):
            user += 1
            liked = np.flatnonzero(np.isin(genres, random.choice(600, size=1 + ratings // 200)))
            chosen = random.choice(liked, size=min(len(liked), ratings), replace=False)
            rest = random.choice(books, size=ratings - len(chosen), replace=False)
            rated = np.union1d(chosen, rest) + 1
            values = random.integers(1, 11, size=len(rated)).tolist()
            generations.plant_ratings(connection, user, rated, values)
    generations.plant(connection, vectors, ef_search=ef_search)
    connection.commit()
    connection.autocommit = True
    connection.execute("VACUUM ANALYZE")
    connection.autocommit = False


@contextmanager
def own_server() -> Iterator[Database]:
    """A server with the defaults of the embedded one, for the time of the block."""
    folder = Path(tempfile.mkdtemp(prefix="tterec-bench-"))
    system_user.open_home(folder)
    cluster = Cluster(folder)
    cluster.create()
    try:
        yield Database(cluster.start().url("postgres"))
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


def timed(action: Callable[[], object]) -> float:
    """Milliseconds that the action takes."""
    start = time.perf_counter()
    action()
    return 1000 * (time.perf_counter() - start)


def compare(connection: Connection, users: list[int], rounds: int) -> tuple[float, float]:
    """Median milliseconds of the bare query and of tterec.recommend(), interleaved."""
    row = connection.execute(
        "SELECT generation, ef_search FROM tterec.active_model JOIN tterec.models"
        " USING (generation)"
    ).fetchone()
    assert row is not None
    generation, ef_search = row
    bare = (
        "SELECT v.item_id, c.isbn, c.title, -(v.embedding <#> %s) AS score"
        f" FROM tterec.item_vectors_{generation} v JOIN tterec.catalogue c USING (item_id)"
        " ORDER BY v.embedding <#> %s LIMIT 10"
    ).encode()
    asked = b"SELECT * FROM tterec.recommend(%s)"
    connection.execute(f"SET hnsw.ef_search = {ef_search}".encode())
    bare = bare.replace(b"%s", b"%s::vector")
    sent: dict[int, str] = {}
    for user in users:
        found = connection.execute("SELECT tterec.user_vector(%s)", (user,)).fetchone()
        assert found is not None
        sent[user] = found[0]

    def ask_bare(user: int) -> None:
        connection.execute(bare, (sent[user], sent[user]), prepare=True).fetchall()

    def ask_ours(user: int) -> None:
        connection.execute(asked, (user,), prepare=True).fetchall()

    times: tuple[list[float], list[float]] = ([], [])
    others = users[len(users) // 2 :] + users[: len(users) // 2]
    for _ in range(rounds):
        for user, other in zip(users, others, strict=True):
            times[0].append(timed(lambda user=user: ask_bare(user)))
            times[1].append(timed(lambda other=other: ask_ours(other)))
    return statistics.median(times[0]), statistics.median(times[1])


def main() -> None:
    """Build what is missing, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--database-url")
    parser.add_argument("--books", type=int, default=270_000)
    parser.add_argument("--ef-search", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with ExitStack() as stack:
        url = arguments.database_url
        database = Database(url) if url else stack.enter_context(own_server())
        measure(database, arguments)


def measure(database: Database, arguments: argparse.Namespace) -> None:
    """Build the shop unless it is there; print the medians for each length of history."""
    pipeline.upgrade(database)
    with database.connect() as connection:
        if connection.execute("SELECT count(*) FROM tterec.books").fetchone() == (0,):
            build(connection, arguments.books, arguments.ef_search)
        connection.execute("UPDATE tterec.models SET ef_search = %s", (arguments.ef_search,))
        connection.commit()
        connection.autocommit = True
        first = 1
        for name, (_, users) in (HISTORIES | HEAVIEST).items():
            asked = list(range(first, first + users))
            first += users
            compare(connection, asked[:20], 1)
            bare, ours = compare(connection, asked, arguments.rounds)
            print(
                f"{name:>15}: bare {bare:7.3f} ms, recommend() {ours:7.3f} ms, "
                f"ratio {ours / bare:5.2f}" + (f" (target {TARGET})" if users == 300 else "")
            )


if __name__ == "__main__":
    main()
