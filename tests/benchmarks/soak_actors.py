"""Those who use a shop at once in the soak: writers, readers, who promotes, and who looks on."""

from __future__ import annotations

import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from typing import Any

import numpy as np
import psycopg

from tests.benchmarks.soak_checks import Generation, Seen, faults
from tests.integration import generations as made_up
from tterec import Recommender, updating
from tterec.config import TrainingConfig
from tterec.database import vectors
from tterec.database.connection import Connection, Database
from tterec.ranking.second_stage import Stage
from tterec.records import Recommendation
from tterec.retrieval import evidence
from tterec.retrieval.live_models import LiveModel, Ranking
from tterec.store import generations, pruning, registry

WATCHED = range(1, 41)  # users about whom readers ask, and whose ratings change
GLUTTON = 41  # has rated all but a few books
NEWCOMER = 42  # has no rating, but may have a profile
STRANGER = 10**9  # is in no table
DIM = 16
TRAINING = "dim = 16\nepochs = 1\nbatch_size = 512\nuniform_negatives = 64\n"

HISTORY = """
    SELECT coalesce(array_agg(book_id ORDER BY rated_at DESC NULLS LAST, rating DESC NULLS LAST,
            book_id), '{}') AS books,
        coalesce(array_agg(rating ORDER BY rated_at DESC NULLS LAST, rating DESC NULLS LAST,
            book_id), '{}') AS ratings
    FROM tterec.ratings WHERE user_id = %(user)s
"""
EXIST = """
    SELECT count(*) FROM tterec.books b WHERE b.book_id <= %(initial)s AND NOT EXISTS
        (SELECT FROM tterec.ratings r WHERE r.user_id = %(user)s AND r.book_id = b.book_id)
"""
LIVE = "SELECT generation FROM tterec.active_model"
LIST = "SELECT jsonb_agg(to_jsonb(r)) FROM tterec.recommend(%(user)s, %(k)s) r"
FACTS = f"SELECT h.books, h.ratings, ({EXIST}), ({LIVE}) FROM ({HISTORY}) h"


class Shop:
    """A shop under soak: its database, what is known of it, and what was found wrong."""

    def __init__(
        self, database: Database, books: int, seed: int, *, trained: bool, most_faults: int
    ) -> None:
        self.database = database
        self.books = books
        self.trained = trained
        self.over = threading.Event()
        self.faults: list[str] = []
        self.calls: dict[str, list[float]] = defaultdict(list)
        self.waits: dict[str, float] = defaultdict(float)
        self.counts: Counter[str] = Counter()
        self.delays: list[float] = []
        self.generations: dict[int, Generation] = {}
        self.pending: queue.SimpleQueue[tuple[int, str, float]] = queue.SimpleQueue()
        self.unseen = 0
        self.deletable: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.book_ids = count(books + 1)
        self.user_ids = count(1000)
        self.newcomers: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.left: list[int] = []  # users who were deleted
        self.pruned: list[int] = []
        self._seed = seed
        self._most_faults = most_faults

    def random(self, actor: int) -> np.random.Generator:
        """An actor's own dice."""
        return np.random.default_rng([self._seed, actor])

    def fault(self, text: str) -> None:
        """Something that must not be. After a few, the soak is over."""
        self.faults.append(text)
        if len(self.faults) >= self._most_faults:
            self.over.set()

    def check(self, actor: str, seen: Seen) -> None:
        """Judge a list."""
        self.counts["lists checked"] += 1
        known = [*self.generations.values()]
        for one in faults(seen, known):
            self.fault(f"{actor}: {one}")

    @contextmanager
    def timed(self, actor: str) -> Iterator[None]:
        """Keep how long a call took."""
        start = time.perf_counter()
        yield
        self.calls[actor].append(time.perf_counter() - start)


def plant(shop: Shop) -> None:
    """Books, users with histories, and two generations, the second of them live."""
    rng = shop.random(0)
    with shop.database.connect() as connection:
        books = made_up.plant_books(connection, shop.books)
        connection.execute(
            "UPDATE tterec.books SET author = 'Author ' || book_id % 20, year = 1950 + book_id % 70"
        )
        for user in WATCHED:
            mine = rng.choice(books, int(rng.integers(1, 25)), replace=False)
            made_up.plant_ratings(
                connection, user, mine.tolist(), rng.integers(1, 11, len(mine)).tolist()
            )
        made_up.plant_ratings(connection, GLUTTON, books[:-6].tolist(), [7.0] * (len(books) - 6))
        connection.execute("INSERT INTO tterec.users (user_id) VALUES (%s)", (NEWCOMER,))
    with shop.database.connect(autocommit=True) as connection:
        connection.execute("VACUUM ANALYZE")
        for _ in range(2):
            generations.promote(connection, publish(shop, connection))


def publish(shop: Shop, connection: Connection) -> int:
    """A generation more, ready to be promoted, its vectors kept in memory; its number.

    Made up, or, where workers are to embed new books with it, trained for one epoch.
    """
    if shop.trained:
        number = _trained(shop, connection)
    else:
        number = generations.begin(connection, TrainingConfig(dim=DIM))
        rows = connection.execute("SELECT book_id FROM tterec.books ORDER BY 1").fetchall()
        ids = np.array([row[0] for row in rows])
        users = [*WATCHED[:: 1 + number % 2], NEWCOMER]
        made = made_up.random_vectors(ids, users, dim=DIM, seed=number)
        ranker = made_up.random_ranker(ids, seed=number) if number % 3 else None
        generations.publish_vectors(connection, number, made, ranker=ranker)
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        shop.generations[number] = in_memory(connection, number)
    shop.counts["published"] += 1
    return number


def _trained(shop: Shop, connection: Connection) -> int:
    with tempfile.NamedTemporaryFile("w", suffix=".toml") as settings:
        settings.write(f"{TRAINING}seed = {shop.counts['published']}\n")
        settings.flush()
        done = tterec(shop, "train", "--no-promote", "--config", settings.name).communicate()
    row = connection.execute(
        "SELECT max(generation) FROM tterec.models WHERE status = 'ready'"
    ).fetchone()
    if row is None or row[0] is None or row[0] in shop.generations:
        raise RuntimeError(f"training gave no generation: {done[1][-500:]}")
    return int(row[0])


def tterec(shop: Shop, *arguments: str) -> subprocess.Popen[str]:
    """The command, as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "tterec", *arguments, "--database-url", shop.database.url],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def in_memory(connection: Connection, number: int) -> Generation:
    """A generation's vectors, as they are stored."""
    row = connection.execute(
        "SELECT dim, normalised, max_history, history_weights, default_profile, ef_search,"
        " quote_ident(nspname), ranker FROM tterec.models, pg_extension e"
        " JOIN pg_namespace n ON n.oid = extnamespace"
        " WHERE generation = %s AND extname = 'vector'",
        (number,),
    ).fetchone()
    assert row is not None
    dim, normalised, max_history, weights, profile, ef_search, extension, ranker = row

    def stored(kind: str) -> tuple[Any, Any]:
        query = f"COPY (TABLE tterec.{kind}_{number} ORDER BY 1) TO STDOUT (FORMAT binary)"
        with connection.cursor().copy(query.encode()) as copy:
            return vectors.from_copy(copy, dim)

    ids, items = stored("item_vectors")
    users, profiles = stored("user_vectors")
    stage = None
    default = np.array(profile, dtype=np.float32)
    if ranker is not None:
        ranking = Ranking(**ranker)
        model = LiveModel(
            generation=number,
            dim=dim,
            normalised=normalised,
            max_history=max_history,
            history_weights=np.array(weights),
            default_profile=default,
            ef_search=ef_search,
            extension=extension,
            ranking=ranking,
        )
        stage = Stage(evidence.ranker(connection, model, ranking))
    return Generation(
        number=number,
        item_ids=ids,
        items=items,
        histories=stored("history_vectors")[1],
        profiles=dict(zip(users.tolist(), profiles, strict=True)),
        default_profile=default,
        history_weights=np.array(weights),
        normalised=normalised,
        max_history=max_history,
        stage=stage,
    )


def write(shop: Shop, actor: int) -> None:
    """Insert ratings, books and users, and delete some, each in a transaction of its own."""
    rng = shop.random(actor)
    with shop.database.connect(autocommit=True) as connection:
        while not shop.over.is_set():
            act = rng.choice(6, p=[0.39, 0.28, 0.1, 0.17, 0.03, 0.03])
            user = int(rng.choice(WATCHED))
            if act == 0:
                rate(connection, user, int(rng.integers(1, shop.books + 1)), rng)
                shop.counts["ratings inserted"] += 1
            elif act == 1:
                connection.execute(
                    "DELETE FROM tterec.ratings WHERE (user_id, book_id) IN (SELECT user_id,"
                    " book_id FROM tterec.ratings WHERE user_id = %s ORDER BY random() LIMIT 1)",
                    (user,),
                )
                shop.counts["ratings deleted"] += 1
            elif act == 2:
                new = next(shop.user_ids)
                with connection.transaction():
                    connection.execute("INSERT INTO tterec.users (user_id) VALUES (%s)", (new,))
                    rate(connection, new, int(rng.integers(1, shop.books + 1)), rng)
                shop.newcomers.put(new)
                shop.counts["users inserted"] += 1
            elif act == 3:
                _new_book(shop, connection)
            elif act == 4:
                _delete_book(shop, connection, rng)
            else:
                _delete_user(shop, connection)
            time.sleep(float(rng.uniform(0.005, 0.03)))


def rate(connection: Connection, user: int, book: int, rng: np.random.Generator) -> None:
    """A rating, or none where the book is gone."""
    rating = None if rng.random() < 0.2 else float(rng.integers(1, 11))
    connection.execute(
        "INSERT INTO tterec.ratings (user_id, book_id, rating) SELECT %s, book_id, %s::real"
        " FROM tterec.books WHERE book_id = %s FOR KEY SHARE ON CONFLICT DO NOTHING",
        (user, rating, book),
    )


def _new_book(shop: Shop, connection: Connection) -> None:
    book = next(shop.book_ids)
    isbn = f"{book:010}"
    connection.execute(
        "INSERT INTO tterec.books (book_id, isbn, title, author, year) VALUES (%s, %s, %s, %s, %s)",
        (book, isbn, f"Book {book}", f"Author {book % 20}", 1950 + book % 70),
    )
    shop.pending.put((book, isbn, time.perf_counter()))
    shop.counts["books inserted"] += 1


def _delete_book(shop: Shop, connection: Connection, rng: np.random.Generator) -> None:
    """One of the first books, of which nine in ten stay, or a new one that had its effect."""
    book = 10 * int(rng.integers(1, shop.books // 10 + 1))
    if rng.random() < 0.5:
        with suppress(queue.Empty):
            book = shop.deletable.get_nowait()
    connection.execute("DELETE FROM tterec.books WHERE book_id = %s", (book,))
    shop.counts["books deleted"] += 1


def _delete_user(shop: Shop, connection: Connection) -> None:
    with suppress(queue.Empty):
        user = shop.newcomers.get_nowait()
        connection.execute("DELETE FROM tterec.users WHERE user_id = %s", (user,))
        shop.left.append(user)
        shop.counts["users deleted"] += 1


def look_for_deleted_users(shop: Shop) -> None:
    """Whoever was deleted is in no table of any generation, once all is up to date."""
    updating.update(shop.database)
    with shop.database.connect() as connection:
        tables = connection.execute(
            "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_attribute a ON attrelid = c.oid"
            " WHERE relnamespace = 'tterec'::regnamespace AND relkind = 'r' AND attname = 'user_id'"
        ).fetchall()
        for (table,) in tables:
            row = connection.execute(
                f"SELECT count(*) FROM {table} WHERE user_id = ANY (%s)".encode(), (shop.left,)
            ).fetchone()
            if row != (0,):
                shop.fault(f"{row} rows of {table} are of users who were deleted")


def asked(rng: np.random.Generator, shop: Shop) -> dict[str, int]:
    """Whom the next list is for, and how long it is to be."""
    users = [int(rng.choice(WATCHED)), GLUTTON, NEWCOMER, STRANGER]
    user = users[int(rng.choice(4, p=[0.85, 0.07, 0.04, 0.04]))]
    return {"user": user, "k": int(rng.choice([1, 10, 50])), "initial": shop.books}


def _seen(given: dict[str, int], rows: Sequence[dict[str, Any]] | None, facts: Any) -> Seen:
    books, ratings, exist, live = facts
    return Seen(
        user=given["user"],
        k=given["k"],
        rows=[Recommendation(**row) for row in rows or ()],
        rated=frozenset(books),
        exist=exist,
        history=(books, ratings),
        generation=live,
    )


def read(shop: Shop, actor: int) -> None:
    """Ask for a list and for what is true, in one statement, which has one snapshot."""
    name, rng = f"reader {actor}", shop.random(actor)
    query = f"SELECT ({LIST}), f.* FROM ({FACTS}) f".encode()
    with _reader(shop, name).connect(autocommit=True) as connection:
        while not shop.over.is_set():
            given = asked(rng, shop)
            with shop.timed(name):
                row = connection.execute(query, given).fetchone()
            assert row is not None
            shop.check(name, _seen(given, row[0], row[1:]))
            time.sleep(0.01)


def read_repeatably(shop: Shop, actor: int) -> None:
    """Ask for some lists in one long transaction: all are of one generation, to its end.

    At first nothing but the snapshot keeps a prune from that generation's tables.
    """
    name, rng = f"reader {actor} (repeatable read)", shop.random(actor)
    with _reader(shop, name).connect() as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        while not shop.over.is_set():
            with connection.transaction():
                live = {connection.execute(LIVE.encode()).fetchone()}
                time.sleep(float(rng.uniform(0, 0.5)))
                for _ in range(int(rng.integers(1, 6))):
                    given = asked(rng, shop)
                    with shop.timed(name):
                        rows = connection.execute(LIST.encode(), given).fetchone()
                    facts = connection.execute(FACTS.encode(), given).fetchone()
                    assert rows is not None
                    assert facts is not None
                    live.add(facts[3:])
                    shop.check(name, _seen(given, rows[0], facts))
                    time.sleep(float(rng.uniform(0, 0.3)))
            if len(live) > 1:
                shop.fault(f"{name}: generations {live} in one transaction")


def read_in_python(shop: Shop, actor: int) -> None:
    """Ask tterec.Recommender. What is true is asked before and after: it holds in between."""
    name, rng = f"reader {actor} (Python)", shop.random(actor)
    with (
        Recommender(_reader(shop, name)) as recommender,
        shop.database.connect(autocommit=True) as connection,
    ):
        while not shop.over.is_set():
            given = asked(rng, shop)
            before = connection.execute(FACTS.encode(), given).fetchone()
            with shop.timed(name):
                rows = recommender.recommend(given["user"], given["k"])
            after = connection.execute(FACTS.encode(), given).fetchone()
            assert before is not None
            assert after is not None
            same = before[:2] == after[:2]
            shop.counts["lists of a changing history"] += not same
            seen = Seen(
                user=given["user"],
                k=given["k"],
                rows=rows,
                rated=frozenset(before[0]) & frozenset(after[0]),
                exist=min(before[2], after[2]),
                history=before[:2] if same else None,
                generation=None,
            )
            shop.check(name, seen)
            time.sleep(0.01)


def _reader(shop: Shop, name: str) -> Database:
    """The database under a name by which the server knows the reader."""
    conninfo = psycopg.conninfo.make_conninfo(shop.database.url, application_name=f"soak {name}")
    return Database(conninfo)


def promote(shop: Shop, actor: int, every: float) -> None:
    """Promote, roll back and prune in a loop; publish a fresh generation now and then."""
    rng = shop.random(actor)
    due = time.monotonic() + every
    with shop.database.connect(autocommit=True) as connection:
        while not shop.over.is_set():
            if time.monotonic() >= due:
                generations.promote(connection, publish(shop, connection))
                due = time.monotonic() + every
            # One after the other without a pause: what was live a moment ago is to go at once.
            for _ in range(int(rng.choice([1, 1, 2]))):
                ready = [
                    one.generation
                    for one in registry.list_generations(connection)
                    if one.status == "ready"
                ]
                generations.promote(connection, int(rng.choice(ready)))
                shop.counts["promoted"] += 1
            act = rng.choice(["nothing", "roll back", "prune"], p=[0.2, 0.4, 0.4])
            if act == "roll back":
                generations.rollback(connection)
                shop.counts["rolled back"] += 1
            elif act == "prune":
                gone = pruning.prune(connection, wait_seconds=5)
                shop.counts["pruned"] += 1
                shop.counts["generations pruned"] += len(gone.pruned)
                shop.pruned += gone.pruned
                # The last few are kept in memory: lists of theirs may still be in hand.
                known, gone_by = shop.generations, set(shop.pruned[:-5])
                shop.generations = {n: one for n, one in known.items() if n not in gone_by}
            time.sleep(float(rng.uniform(0.02, 0.3)))


def watch_locks(shop: Shop) -> None:
    """See how long each reader waits for a lock: a busy machine makes calls long, a lock blocks."""
    with shop.database.connect(autocommit=True) as connection:
        while not shop.over.is_set():
            for name, seconds in connection.execute(
                "SELECT application_name, extract(epoch FROM clock_timestamp() - waitstart)::float8"
                " FROM pg_locks JOIN pg_stat_activity USING (pid)"
                " WHERE waitstart IS NOT NULL AND application_name LIKE 'soak reader%'"
            ):
                shop.waits[name] = max(shop.waits[name], seconds)
            shop.counts["looks at locks"] += 1
            time.sleep(0.05)


def watch_books(shop: Shop, patience: float) -> None:
    """Keep how long each new book takes until tterec.similar_books has a vector of it."""
    pending: dict[int, tuple[str, float]] = {}
    asked_again = "SELECT source FROM tterec.similar_books(%s, 1)"
    with shop.database.connect() as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        stop = None
        while stop is None or (pending and time.perf_counter() < stop):
            if shop.over.is_set() and stop is None:
                stop = time.perf_counter() + patience
            with suppress(queue.Empty):
                while True:
                    book, isbn, committed = shop.pending.get_nowait()
                    pending[book] = isbn, committed
            # In one snapshot: while it is open, no prune drops the table.
            with connection.transaction():
                row = connection.execute(LIVE.encode()).fetchone()
                assert row is not None
                query = f"SELECT item_id FROM tterec.item_vectors_{row[0]} WHERE item_id = ANY (%s)"
                found = connection.execute(query.encode(), ([*pending],)).fetchall()
                now = time.perf_counter()
                for (book,) in found:
                    isbn, committed = pending.pop(book)
                    shop.delays.append(now - committed)
                    source = connection.execute(asked_again.encode(), (isbn,)).fetchone()
                    if source != ("history",):
                        shop.fault(f"book {book} has a vector, and similar_books has {source}")
                    shop.deletable.put(book)
            time.sleep(0.02)
        shop.unseen = len(pending)


def guarded(shop: Shop, act: Callable[..., None], *given: Any) -> None:
    """Whatever an actor raises is a fault, and the actor begins again."""
    while not shop.over.is_set():
        try:
            act(shop, *given)
        except Exception as error:  # whatever it is: a soak is to find what nobody thought of
            said = " ".join(str(error).split())
            shop.fault(f"{act.__name__}: {type(error).__name__}: {said}")


def _await_effect(shop: Shop, seconds: float) -> None:
    """Wait until somebody has embedded a new book."""
    book, end = next(shop.book_ids), time.monotonic() + seconds
    with shop.database.connect(autocommit=True) as connection:
        connection.execute(
            "INSERT INTO tterec.books (book_id, isbn, title) VALUES (%s, %s, 'The first')",
            (book, f"{book:010}"),
        )
        query = "SELECT source FROM tterec.similar_books(%s, 1)"
        while connection.execute(query.encode(), (f"{book:010}",)).fetchone() != ("history",):
            if time.monotonic() > end:
                shop.fault(f"no worker embedded a new book within {seconds:.0f} s")
                return
            time.sleep(0.1)


def worker_exists() -> bool:
    """Whether this tterec has the command `worker`."""
    command = [sys.executable, "-m", "tterec", "worker", "--help"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@contextmanager
def workers(shop: Shop, number: int) -> Iterator[None]:
    """So many `tterec worker` processes; one that ends before the block does is a fault.

    The block begins once they work: a process takes seconds to start, which is no delay of a book.
    """
    running = [tterec(shop, "worker") for _ in range(number)]
    try:
        if running:
            _await_effect(shop, seconds=120)
        yield
        for place, process in enumerate(running, start=1):
            if process.poll() is not None:
                assert process.stderr is not None
                said = process.stderr.read()[-500:]
                shop.fault(f"worker {place} ended with {process.returncode}: {said}")
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.communicate(timeout=60)
