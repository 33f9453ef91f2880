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
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack

from tests.benchmarks import big_shop
from tests.benchmarks.own_server import own_server
from tterec.database.connection import Connection, Database

TARGET = 2.0


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
    shop = big_shop.Shop(books=arguments.books, users=300, second_stage=False)
    big_shop.ensure(database, shop)
    with database.connect() as connection:
        connection.execute("UPDATE tterec.models SET ef_search = %s", (arguments.ef_search,))
        connection.commit()
        connection.autocommit = True
        groups = {shop.ratings: range(1, shop.users + 1), **shop.heavy_users()}
        for ratings, users in groups.items():
            asked = list(users)
            compare(connection, asked[:20], 1)
            bare, ours = compare(connection, asked, arguments.rounds)
            print(
                f"{ratings:>7,} ratings: bare {bare:7.3f} ms, recommend() {ours:7.3f} ms, "
                f"ratio {ours / bare:5.2f}"
                + (f" (target {TARGET})" if ratings == shop.ratings else "")
            )


if __name__ == "__main__":
    main()
