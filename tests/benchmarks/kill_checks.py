"""What must be true whoever was killed: lists are whole, and nothing is half there or left over."""

from __future__ import annotations

import threading
import time
from collections import Counter
from contextlib import suppress

import psycopg

from tests.benchmarks.kill_instants import sessions
from tterec import errors
from tterec.database.connection import Connection, Database
from tterec.store import vector_tables

TOLERANCE = 1e-4
GRACE = 10.0  # seconds until the server has noticed that a client is gone
_PAUSE = 0.03


class Readers:
    """Two who ask for lists all the time, each answered within `patience` seconds or it is a fault.

    One judges each list in its snapshot by the vectors of the live generation; one asks as an
    application does. Use it in a `with` statement.
    """

    def __init__(
        self, database: Database, users: range, k: int = 10, patience: float = 5.0
    ) -> None:
        self.faults: list[str] = []
        self.lists: Counter[int] = Counter()
        self._database, self._users, self._k, self._patience = database, users, k, patience
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._guarded, args=(judged,), daemon=True)
            for judged in (True, False)
        ]

    def __enter__(self) -> Readers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(timeout=30)

    def _guarded(self, judged: bool) -> None:
        while not self._over.is_set():
            try:
                self._read(judged)
            except (psycopg.Error, errors.TterecError) as error:
                self.faults.append(f"a reader met {type(error).__name__}: {error}")
                time.sleep(_PAUSE)

    def _read(self, judged: bool) -> None:
        with self._database.connect(autocommit=True) as connection:
            connection.execute(f"SET statement_timeout = '{self._patience:.0f}s'".encode())
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            for turn in range(10**9):
                if self._over.is_set():
                    return
                user = self._users[turn % len(self._users)]
                with connection.transaction():
                    self.faults += self._judge(connection, user, judged)
                time.sleep(_PAUSE)

    def _judge(self, connection: Connection, user: int, judged: bool) -> list[str]:
        rows = connection.execute(
            "SELECT book_id, similarity, source FROM tterec.recommend(%s, %s)", (user, self._k)
        ).fetchall()
        faults = []
        if len(rows) != self._k:
            faults.append(f"user {user} gets {len(rows)} of {self._k} rows")
        if {row[2] for row in rows} != {"history"}:
            faults.append(f"user {user} gets {Counter(row[2] for row in rows)}")
        live = connection.execute("SELECT generation FROM tterec.active_model").fetchone()
        if live is None:
            return [*faults, "no generation is live"]
        self.lists[int(live[0])] += 1
        if judged:
            extension = "OPERATOR(public.<#>)"
            found = connection.execute(
                f"SELECT item_id, -(embedding {extension} tterec.user_vector(%s))"
                f" FROM tterec.item_vectors_{live[0]} WHERE item_id = ANY (%s)".encode(),
                (user, [row[0] for row in rows]),
            ).fetchall()
            right = dict(found)
            wrong = sum(
                row[0] not in right or abs(row[1] - right[row[0]]) > TOLERANCE for row in rows
            )
            if wrong:
                faults.append(f"{wrong} rows of user {user} are not of generation {live[0]}")
        return faults


def left_behind(connection: Connection, who: str) -> list[str]:
    """Sessions, and with them locks, of a process that is dead; they have a moment to go."""
    end = time.monotonic() + GRACE
    while found := sessions(connection, who):
        if time.monotonic() > end:
            return [f"{len(found)} sessions are left after {GRACE:.0f} s"]
        time.sleep(0.02)
    return []


def half_visible(connection: Connection) -> list[str]:
    """What is not whole of the generations that can be served, and of the live views."""
    faults = []
    ready = connection.execute(
        "SELECT generation, ranker IS NOT NULL FROM tterec.models WHERE status = 'ready'"
    ).fetchall()
    for generation, ranked in ready:
        kinds = (*vector_tables.KINDS, *([vector_tables.EVIDENCE] if ranked else []))
        tables = [f"tterec.{kind}_{generation}" for kind in kinds]
        for table in tables:
            if connection.execute("SELECT to_regclass(%s)", (table,)).fetchone() == (None,):
                faults.append(f"generation {generation} is ready and has no {table}")
    row = connection.execute("SELECT generation FROM tterec.active_model").fetchone()
    if row is None:
        return [*faults, "no generation is live"]
    with suppress(psycopg.errors.UndefinedTable):
        faults += _uneven(connection, int(row[0]))
    return faults


def _uneven(connection: Connection, live: int) -> list[str]:
    """Whether the live generation has one row of each kind an item, and the views show them."""
    others = [f"tterec.history_vectors_{live}", "tterec.live_item_vectors"]
    others.append(f"(SELECT item_id FROM tterec.item_state WHERE generation = {live})")
    faults = []
    for other in others:
        row = connection.execute(
            "SELECT count(*) FROM (SELECT item_id FROM"
            f" tterec.item_vectors_{live}) a FULL JOIN {other} b USING (item_id)"
            " WHERE a.item_id IS NULL OR b.item_id IS NULL".encode()
        ).fetchone()
        if row != (0,):
            faults.append(f"item_vectors_{live} and {other} differ in {row} items")
    return faults


def orphans(connection: Connection) -> list[str]:
    """What is left after a prune of generations that are neither live nor the previous one."""
    kept = {
        int(number)
        for row in connection.execute("SELECT generation, previous_generation FROM"
                                      " tterec.active_model").fetchall()
        for number in row
        if number is not None
    }  # fmt: skip
    faults = [
        f"tables of generation {number} are left"
        for number in vector_tables.generations_with_tables(connection)
        if number not in kept
    ]
    tables = connection.execute(
        "SELECT c.relname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid"
        " WHERE a.attname = 'generation' AND c.relkind = 'r'"
        " AND c.relnamespace = 'tterec'::regnamespace"
        " AND c.relname NOT IN ('models', 'active_model')"
    ).fetchall()
    for (table,) in tables:
        found = connection.execute(
            f"SELECT DISTINCT generation FROM tterec.{table}".encode()
        ).fetchall()
        faults += [f"{table} has rows of generation {n}" for (n,) in found if n not in kept]
    unfinished = connection.execute(
        "SELECT generation, status FROM tterec.models WHERE status NOT IN ('failed', 'pruned')"
        " AND generation <> ALL (%s)",
        (list(kept),),
    ).fetchall()
    return faults + [f"generation {n} is {status} still" for n, status in unfinished]
