"""How fast is tterec.recommend(), beside the bare index query that it is made of?

    python -m tests.benchmarks.serving [--database-url URL] [--books 270000]

Builds a generated shop (a database given by URL keeps it, otherwise it is on a server of its own
that goes again), then asks over one connection, by prepared statements:

- without second stage, in turns of a second, `tterec.recommend(user)` and the bare `ORDER BY
  embedding <#> $1 LIMIT 10`, with the same ef_search and the same join for the titles: how many
  lists a second each gives, and their ratio;
- with the second stage, `tterec.recommend(user)` for users with histories of each length: the
  median and the 99th percentile of the milliseconds, and how many of them each part takes: the
  median of a call that ends after it, less that of the part before.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import numpy as np

from tests.benchmarks import big_shop
from tests.benchmarks.own_server import own_server
from tests.benchmarks.targets import Targets
from tterec.database.connection import Connection, Database

TARGET = 0.7
TARGET_P99_MS = 25
HEAVY = ((1, 100), (200, 50), (2_000, 10), (12_860, 2))
ASKED = b"SELECT * FROM tterec.recommend(%s)"


def timed(action: Callable[[], object]) -> float:
    """Milliseconds that the action takes."""
    start = time.perf_counter()
    action()
    return 1000 * (time.perf_counter() - start)


def a_second(ask: Callable[[int], object], users: Sequence[int], seconds: float = 1.0) -> float:
    """How often `ask` is done a second, of users in turn."""
    for user in users[:20]:
        ask(user)
    start, done = time.perf_counter(), 0
    while (spent := time.perf_counter() - start) < seconds:
        ask(users[done % len(users)])
        done += 1
    return done / spent


def compare(connection: Connection, users: Sequence[int], rounds: int) -> tuple[float, float]:
    """Lists a second of the bare query and of tterec.recommend(), medians of turns."""
    row = connection.execute(
        "SELECT generation, ef_search FROM tterec.active_model JOIN tterec.models"
        " USING (generation)"
    ).fetchone()
    assert row is not None
    generation, ef_search = row
    bare = (
        "SELECT v.item_id, c.isbn, c.title, -(v.embedding <#> %s::vector) AS score"
        f" FROM tterec.item_vectors_{generation} v JOIN tterec.catalogue c USING (item_id)"
        " ORDER BY v.embedding <#> %s::vector LIMIT 10"
    ).encode()
    connection.execute(f"SET hnsw.ef_search = {ef_search}".encode())
    sent: dict[int, str] = {}
    for user in users:
        found = connection.execute("SELECT tterec.user_vector(%s)", (user,)).fetchone()
        assert found is not None
        sent[user] = found[0]

    def ask_bare(user: int) -> None:
        connection.execute(bare, (sent[user], sent[user]), prepare=True).fetchall()

    def ask_ours(user: int) -> None:
        connection.execute(ASKED, (user,), prepare=True).fetchall()

    rates: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        rates[0].append(a_second(ask_bare, users))
        rates[1].append(a_second(ask_ours, users))
    return statistics.median(rates[0]), statistics.median(rates[1])


def latencies(connection: Connection, users: Sequence[int], rounds: int) -> tuple[float, float]:
    """Median and 99th percentile of the milliseconds of tterec.recommend()."""
    times = []
    for turn in range(rounds + 1):
        for user in users:
            asked = timed(lambda user=user: connection.execute(ASKED, (user,), prepare=True))
            if turn:  # the first finds the cache cold
                times.append(asked)
    median, most = np.quantile(times, [0.5, 0.99])
    return float(median), float(most)


def parts(
    connection: Connection, users: Sequence[int], ratings: int, rounds: int
) -> dict[str, float]:
    """Milliseconds up to the end of each part of the second stage's list: medians."""
    row = connection.execute(
        "SELECT generation, ef_search, ranker ->> 'candidates',"
        " ranker ->> 'width', ranker ->> 'unrated_weight' FROM tterec.active_model"
        " JOIN tterec.models USING (generation)"
    ).fetchone()
    assert row is not None
    generation, ef_search, candidates, width, unrated = row
    wanted = int(candidates) + 5
    # As tterec.ranked has it.
    set_up = connection.execute(
        "SELECT set_config('hnsw.ef_search', tterec.search_width(%(ef)s, %(k)s, %(met)s)::text,"
        " false), set_config('hnsw.iterative_scan', 'strict_order', false),"
        " tterec.met_most(%(met)s, %(k)s)",
        {"ef": ef_search, "k": int(candidates), "met": ratings},
    ).fetchone()
    assert set_up is not None
    searched = "beyond" if set_up[-1] else "near"
    history = "(SELECT * FROM tterec.history_of(%(user)s::bigint) OFFSET 0) h"
    vector = (
        f"(SELECT h.*, e.vector FROM {history},"
        " tterec.embed(%(user)s::bigint, h.items, h.ratings) e OFFSET 0) h"
    )
    near = (
        f"(SELECT h.*, n.ids FROM {vector},"
        f" tterec.{searched}_{generation}(h.vector, h.met, {wanted}) n OFFSET 0) h"
    )
    led = (
        f"(SELECT h.*, tterec.leads_{generation}(h.items, h.ids, h.met) AS led"
        f" FROM {near} OFFSET 0) h"
    )
    heard = (
        f"(SELECT h.*, tterec.heard_{generation}(h.items, h.ratings, {unrated}, {width}) AS heard"
        f" FROM {led} OFFSET 0) h"
    )
    asked = {
        "the history": f"SELECT cardinality(h.met) FROM {history}",
        "the vector": f"SELECT h.vector IS NULL FROM {vector}",
        "the nearest": f"SELECT cardinality(h.ids) FROM {near}",
        "the led": f"SELECT cardinality(h.led) FROM {led}",
        "what speaks": f"SELECT h.heard IS NULL FROM {heard}",
        "scores and titles": "SELECT * FROM tterec.recommend(%(user)s::bigint)",
    }
    times: dict[str, list[float]] = {name: [] for name in asked}
    for turn in range(rounds * len(users)):
        for place, (name, statement) in enumerate(asked.items()):
            # Not all of one user: what one part has read, the next would find in the processor's
            # cache.
            given = {"user": users[(turn + place) % len(users)]}
            times[name].append(
                timed(
                    lambda statement=statement, given=given: connection.execute(
                        statement.encode(), given, prepare=True
                    )
                )
            )
    return {name: statistics.median(found) for name, found in times.items()}


def main() -> None:
    """Build what is missing, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--database-url")
    parser.add_argument("--books", type=int, default=270_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--ef-search", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with ExitStack() as stack:
        url = arguments.database_url
        database = Database(url) if url else stack.enter_context(own_server())
        measure(database, arguments)


def measure(database: Database, arguments: argparse.Namespace) -> None:
    """Build the shop unless it is there; print the rates, then the times by length of history."""
    shop = big_shop.Shop(books=arguments.books, users=300, heavy=HEAVY, dim=arguments.dim)
    big_shop.ensure(database, shop)
    with database.connect() as connection:
        connection.execute("UPDATE tterec.models SET ef_search = %s", (arguments.ef_search,))
        connection.commit()
        connection.execute("UPDATE tterec.models SET ranker = NULL")  # rolled back below
        bare, ours = compare(connection, range(1, shop.users + 1), arguments.rounds)
        print(f"without second stage: bare {bare:,.0f} a second, recommend() {ours:,.0f}")
        targets = Targets()
        targets.at_least("lists a second over the bare query", ours / bare, TARGET)
        connection.rollback()
        connection.autocommit = True
        groups = {shop.ratings: range(1, shop.users + 1), **shop.heavy_users()}
        for ratings, users in sorted(groups.items()):
            rounds = max(arguments.rounds, 40 * arguments.rounds // len(users))
            median, most = latencies(connection, users, rounds)
            print(f"{ratings:>7,} ratings: p50 {median:6.1f} ms, p99 {most:6.1f} ms")
            before, said = 0.0, []
            for name, until in parts(connection, users, ratings, rounds).items():
                said.append(f"{name} {until - before:.1f}")
                before = until
            print(f"{'':>16} ms of {', '.join(said)}")
            if ratings >= 2_000:
                targets.at_most(f"p99 with {ratings:,} ratings", most, TARGET_P99_MS, "ms")
    targets.end()


if __name__ == "__main__":
    main()
