"""Is the way that a filtered list takes the cheaper one?

    python -m tests.benchmarks.filters [--database-url URL] [--books 270000]

Builds a generated shop whose books have years, under an index, so that `min_year` passes any share
of them. Asks `tterec.recommend(user, min_year => …)` and `tterec.similar_books(isbn, min_year =>
…)` with `tterec.few` replaced so that either way is taken, the index or scoring all that pass, and
then as it is; prints the medians of the milliseconds, and which way that was.
"""

from __future__ import annotations

import argparse
import re
import statistics
from contextlib import ExitStack

from tests.benchmarks import big_shop, serving
from tests.benchmarks.own_server import own_server
from tterec.database.connection import Connection, Database

SHARES = (0.001, 0.005, 0.01, 0.05, 0.2, 0.5, 1.0)
YEARS = 1000
TIMES = 15
BODY = re.compile(r"SELECT least\(.*\)::int", re.DOTALL)


def give_years(connection: Connection) -> None:
    """Years from 0 to 999, each of as many books, in no order."""
    connection.execute(
        "UPDATE tterec.books SET year = abs(hashint8(book_id)::bigint) %% %s", (YEARS,)
    )
    connection.execute("CREATE INDEX IF NOT EXISTS books_year ON tterec.books (year)")


def median(connection: Connection, call: str, year: int) -> float:
    """Milliseconds of a list, over some users or books."""
    query = f"SELECT * FROM tterec.{call}, min_year => {year})".encode()
    times = [
        serving.timed(lambda n=n: connection.execute(query, (n,)).fetchall())
        for n in range(1, TIMES + 1)
    ]
    return statistics.median(times)


def chosen(connection: Connection, year: int, wanted: int | None) -> str:
    """Which way is taken for a list of `wanted`."""
    row = connection.execute(
        "SELECT few FROM tterec.among(jsonb_build_object('min_year', %s::int), %s)",
        (year, wanted),
    ).fetchone()
    assert row is not None
    return "all" if row[0] else "index"


def measure(database: Database, books: int) -> None:
    """Build the shop unless it is there; print a line a share."""
    big_shop.ensure(database, big_shop.Shop(books=books, users=300))
    with database.connect(autocommit=True) as connection:
        give_years(connection)
        connection.execute("VACUUM ANALYZE tterec.books")
        row = connection.execute("SELECT pg_get_functiondef('tterec.few'::regproc)").fetchone()
        assert row is not None
        ways = {"index": BODY.sub("SELECT 0", row[0]), "all": BODY.sub("SELECT 1000000000", row[0])}
        calls = {
            "recommend": ("recommend(%s", None),
            "similar_books": ("similar_books(to_char(%s, 'FM0000000000')", 15),
        }
        try:
            for share in SHARES:
                year, found = YEARS - round(YEARS * share), []
                for name, (call, wanted) in calls.items():
                    for way, body in ways.items():
                        connection.execute(body.encode())
                        found.append(f"{way} {median(connection, call, year):.1f}")
                    connection.execute(row[0].encode())
                    way = chosen(connection, year, wanted)
                    found.append(f"chosen ({way}) {median(connection, call, year):.1f} ms")
                    found[-3] = f"{name}: {found[-3]}"
                print(f"{share:7.1%}  {', '.join(found[:3])}; {', '.join(found[3:])}", flush=True)
        finally:
            connection.execute(row[0].encode())


def main() -> None:
    """Build, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--database-url")
    parser.add_argument("--books", type=int, default=270_000)
    arguments = parser.parse_args()
    with ExitStack() as stack:
        url = arguments.database_url
        database = Database(url) if url else stack.enter_context(own_server())
        measure(database, arguments.books)


if __name__ == "__main__":
    main()
