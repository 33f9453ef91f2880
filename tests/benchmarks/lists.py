"""How many lists a second do clients get, by tterec.recommend() and by the query it rests on?

    python -m tests.benchmarks.lists [--database-url URL] [--books 270000] [--users 280000]

Builds the shop of big_shop.py (a database given by URL keeps it, otherwise it is on a server of its
own that goes again). `tterec precompute` makes the lists of a sample of the users, which tells how
long those of all would take; the others get lists of random books. Then pgbench, four clients with
prepared statements, asks about random users: by `tterec.recommend(user)`, and by hand from the
arrays of the same rows with NOT EXISTS on the ratings, with titles and without, in turns.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from tests.benchmarks import big_shop
from tests.benchmarks.own_server import own_server
from tests.benchmarks.targets import Targets
from tterec import precomputing
from tterec.bulk_lists import Bulk
from tterec.database import programs, system_user
from tterec.database.connection import Connection, Database
from tterec.retrieval.choice import Indexes
from tterec.store import user_lists

CLIENTS = 4
TARGET = 0.8
_HAND = (
    "SELECT one.item_id, one.score{title} FROM tterec.user_lists l,"
    " unnest(l.items, l.scores) WITH ORDINALITY AS one (item_id, score, place){join}"
    " WHERE l.generation = {generation} AND l.user_id = :user::bigint AND NOT EXISTS"
    " (SELECT FROM tterec.ratings r WHERE r.user_id = l.user_id AND r.book_id = one.item_id)"
    " LIMIT 10"
)
# Without a type it would be a text, which is looked up by name.
_OURS = "SELECT * FROM tterec.recommend(:user::bigint)"
_LIVE = (
    "SELECT * FROM tterec.recommend_live(:user::bigint, NULL, 10, true"
    ", NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)"
)


def fill(connection: Connection, shop: big_shop.Shop) -> None:
    """Give everybody without a list 200 random books, as a precomputed list of two stages is."""
    connection.execute("SELECT setseed(0.5)")
    connection.execute(
        "INSERT INTO tterec.user_lists (generation, user_id, digest, change, source, items, scores,"
        "  similarities, vector, nearest)"
        " SELECT a.generation, u, d.digest, s.change, 'history', r.items, r.scores, r.scores,"
        "  array_fill(0.125::real, ARRAY[m.dim]), 0.5"
        " FROM tterec.active_model a JOIN tterec.models m USING (generation)"
        "  JOIN tterec.list_sets s USING (generation), generate_series(1, %s) u,"
        "  LATERAL tterec.history_digest(u) d,"
        "  LATERAL (SELECT array_agg(1 + floor(random() * %s)::bigint) AS items,"
        "    array_agg((1 - n / 200.0)::real) AS scores"
        "   FROM generate_series(1, 200) n WHERE u IS NOT NULL) r"
        " WHERE NOT EXISTS (SELECT FROM tterec.user_lists l"
        "   WHERE l.generation = a.generation AND l.user_id = u)",
        (shop.everybody, shop.books),
    )


def precompute_some(database: Database, sample: int) -> float:
    """Lists a second of the verb, without reading the vectors, for users from the first on."""
    with database.connect(autocommit=True) as connection:
        row = connection.execute("SELECT generation FROM tterec.active_model").fetchone()
        assert row is not None
        work = precomputing._Precompute(connection, row[0], precomputing.TOP, lambda _: None)
        user_lists.open_set(connection, row[0], precomputing.TOP)
        with connection.transaction():
            bulk = Bulk(connection, True, Indexes())
        start = time.perf_counter()
        at_once = precomputing.users_at_once(bulk, work._depth(bulk))
        for first in range(1, sample + 1, at_once):
            users = range(first, min(first + at_once, sample + 1))
            work._make(bulk, user_lists.last_change(connection, row[0]), users)
        return sample / (time.perf_counter() - start)


def run(database: Database, statement: str, users: int, seconds: int) -> tuple[float, list[float]]:
    """Transactions a second of pgbench, and their milliseconds at the 50th and 99th percentile."""
    program = programs.versions()[programs.wanted_version()] / "pgbench"
    with tempfile.TemporaryDirectory() as folder:
        system_user.open_home(Path(folder))
        script = Path(folder, "script.sql")
        script.write_text(f"\\set user random(1, {users})\n{statement};\n", encoding="utf-8")
        script.chmod(0o644)
        done = subprocess.run(
            [
                *(str(program), "-n", "-M", "prepared", "-c", str(CLIENTS), "-j", "2"),
                *("-T", str(seconds), "-f", str(script), "--log", f"--log-prefix={folder}/log"),
                database.url,
            ],
            check=True,
            capture_output=True,
            encoding="utf-8",
            env={k: v for k, v in os.environ.items() if not k.startswith("PG")},
        )
        latencies = np.concatenate([np.loadtxt(log, usecols=2) for log in logs(folder)])
    line = next(line for line in done.stdout.splitlines() if line.startswith("tps = "))
    return float(line.split()[2]), (np.percentile(latencies, [50, 99]) / 1000).tolist()


def logs(folder: str) -> Iterator[Path]:
    """pgbench's logs, one a thread."""
    yield from Path(folder).glob("log.*")


def main() -> None:
    """Build what is missing, measure, print; exits with 1 below the target."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--database-url")
    parser.add_argument("--books", type=int, default=big_shop.Shop.books)
    parser.add_argument("--users", type=int, default=big_shop.Shop.users)
    parser.add_argument("--sample", type=int, default=1000, help="Lists that are precomputed.")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5)
    given = parser.parse_args()
    shop = big_shop.Shop(books=given.books, users=given.users)
    with ExitStack() as stack:
        url = given.database_url
        database = Database(url) if url else stack.enter_context(own_server())
        big_shop.ensure(database, shop)
        measure(database, shop, given)


def measure(database: Database, shop: big_shop.Shop, given: argparse.Namespace) -> None:
    """Make the lists; print what each way gives."""
    speed = precompute_some(database, min(given.sample, shop.users))
    print(f"precompute: {speed:,.0f} lists/s, {shop.users / speed / 60:,.0f} min for all")
    run(database, _LIVE, shop.users, 2)
    live, _ = run(database, _LIVE, shop.users, given.seconds)
    with database.connect(autocommit=True) as connection:
        fill(connection, shop)
        connection.execute("VACUUM ANALYZE tterec.user_lists")
        size = connection.execute("SELECT pg_total_relation_size('tterec.user_lists')").fetchone()
        assert size is not None
        print(f"lists take {size[0] / shop.everybody / 1e3:.1f} kB each, {size[0] / 1e9:.2f} GB")
        row = connection.execute("SELECT generation FROM tterec.active_model").fetchone()
        assert row is not None
        join = " JOIN tterec.books b ON b.book_id = one.item_id"
        ways = {
            "by hand": _HAND.format(generation=row[0], title="", join=""),
            "by hand, titles": _HAND.format(
                generation=row[0], title=", b.isbn, b.title", join=join
            ),
            "tterec.recommend()": _OURS,
        }
    found: dict[str, list[tuple[float, list[float]]]] = {name: [] for name in ways}
    for statement in ways.values():
        run(database, statement, shop.users, 2)
    for _ in range(given.rounds):
        for name, statement in ways.items():
            found[name].append(run(database, statement, shop.users, given.seconds))
    tps = {name: float(np.median([one[0] for one in runs])) for name, runs in found.items()}
    for name, runs in found.items():
        p50, p99 = np.median([one[1] for one in runs], axis=0)
        print(f"{name:>20}: {tps[name]:8,.0f}/s, p50 {p50:.2f} ms, p99 {p99:.2f} ms")
    ours = tps["tterec.recommend()"]
    print(f"ratio {ours / tps['by hand']:.2f} to those by hand without titles")
    print(f"{ours / live:.1f} times as fast as computed in the call: {live:,.0f}/s")
    targets = Targets()
    targets.at_least(
        "lists a second over those by hand, titles included", ours / tps["by hand, titles"], TARGET
    )
    targets.end()


if __name__ == "__main__":
    main()
