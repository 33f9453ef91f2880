"""From how many books that pass a filter on does the index beat scoring them all?

    python -m tests.benchmarks.filters [--database-url URL] [--books 200000]

Builds the generated shop of the serving benchmark, with a second stage, and publishers of 100 to
8,000 books, under an index. Asks `tterec.recommend(user, publisher => …)` and
`tterec.similar_books(isbn, publisher => …)`, with the limit of `tterec.among` set so that either
way is taken; prints medians beside that of the list without filters.
"""

from __future__ import annotations

import argparse
import re
import statistics
from contextlib import ExitStack

from tests.benchmarks import serving
from tests.integration import generations
from tterec import pipeline
from tterec.database.connection import Connection, Database

SIZES = (100, 300, 1_000, 2_000, 4_000, 8_000)
USERS = 15
LIMIT = re.compile(r"most CONSTANT int := \d+")


def build(connection: Connection, books: int) -> None:
    """Books, users with 20 ratings each, publishers of SIZES, and a live generation."""
    serving.build(connection, books, 100)
    vectors, _ = serving.shop(books)
    ranker = generations.random_ranker(vectors.item_ids, candidates=200)
    generations.plant(connection, vectors, ranker=ranker)
    for size in SIZES:
        connection.execute(
            "UPDATE tterec.books SET publisher = %(size)s::text WHERE book_id IN ("
            " SELECT book_id FROM tterec.books WHERE publisher IS NULL"
            " ORDER BY hashint8(book_id) LIMIT %(size)s)",
            {"size": size},
        )
    connection.execute("CREATE INDEX ON tterec.books (lower(btrim(publisher)))")
    connection.commit()


def median(connection: Connection, call: str) -> float:
    """Milliseconds of a list, over some users or books."""
    query = f"SELECT * FROM tterec.{call}".encode()
    times = []
    for n in range(1, USERS + 1):
        times.append(serving.timed(lambda n=n: connection.execute(query, (n,)).fetchall()))
    return statistics.median(times)


def measure(database: Database, books: int) -> None:
    """Build the shop unless it is there; print a line a size."""
    pipeline.upgrade(database)
    with database.connect() as connection:
        if connection.execute("SELECT count(*) FROM tterec.books").fetchone() == (0,):
            build(connection, books)
        connection.autocommit = True
        connection.execute("VACUUM ANALYZE tterec.books")
        row = connection.execute("SELECT pg_get_functiondef('tterec.among'::regproc)").fetchone()
        assert row is not None
        print(f"without filters: recommend {median(connection, 'recommend(%s)'):.1f} ms")
        for size in SIZES:
            found = []
            for limit in (0, books):
                changed = LIMIT.sub(f"most CONSTANT int := {limit}", row[0])
                connection.execute(changed.encode())
                isbn = "to_char(%s, 'FM0000000000')"
                for called in ("recommend(%s", f"similar_books({isbn}"):
                    found.append(median(connection, f"{called}, publisher => '{size}')"))
            print(
                f"{size:>6} pass: recommend {found[0]:6.1f} ms by the index, {found[2]:6.1f} ms "
                f"all; similar_books {found[1]:6.1f} ms, {found[3]:6.1f} ms"
            )
        connection.execute(row[0])


def main() -> None:
    """Build, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--database-url")
    parser.add_argument("--books", type=int, default=200_000)
    arguments = parser.parse_args()
    with ExitStack() as stack:
        url = arguments.database_url
        database = Database(url) if url else stack.enter_context(serving.own_server())
        measure(database, arguments.books)


if __name__ == "__main__":
    main()
