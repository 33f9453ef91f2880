"""What is killed: each command, the work that it is given, and what there must be in the end."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import click

from tests.benchmarks.kill_instants import Instant, copying, indexing, waiting
from tests.integration import generations as made_up
from tterec.cli import main
from tterec.database.connection import Connection, Database
from tterec.store import locks, registry

READERS = range(1, 41)
BOOKS = 1500
SETTINGS = "dim = 32\nepochs = 1\nbatch_size = 1024\nuniform_negatives = 32\n"
LOADED = 200  # rows of each file


class Shop:
    """A shop whose commands are killed, and where its files lie."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database, self.folder = database, folder
        self.numbers = count(1)
        self.loaded = 0  # the number in the names of what was last to be loaded
        self.new_books: list[int] = []
        (folder / "train.toml").write_text(SETTINGS, encoding="utf-8")

    def plant(self) -> None:
        """Fill an empty database that has the schema."""
        with self.database.connect() as connection:
            made_up.plant_books(connection, BOOKS)
            connection.execute(
                "SELECT setval(pg_get_serial_sequence('tterec.books', 'book_id'), %s)", (BOOKS,)
            )
            connection.execute(
                "UPDATE tterec.books SET author = 'Author ' || book_id % 50, year = 1950 + book_id"
                " % 70"
            )
            connection.execute(
                "INSERT INTO tterec.users SELECT u, 'town ' || u % 7, 20 + u % 50"
                " FROM generate_series(1, 100) u"
            )
            connection.execute(
                "INSERT INTO tterec.ratings SELECT u, 1 + (u * 7919 + n * n * 31) %% %s,"
                " 5 + (u + n) %% 6 FROM generate_series(1, 100) u, generate_series(1, 20) n"
                " ON CONFLICT DO NOTHING",
                (BOOKS,),
            )


Check = Callable[[Shop, Connection], list[str]]


@dataclass(frozen=True)
class Command:
    """One to be killed. `prepare` gives it something to do; `half` says what is half-visible
    after a kill, `done` what is missing after a run that ended well."""

    name: str
    arguments: Callable[[Shop], list[str]]
    prepare: Callable[[Shop], None]
    half: Check
    done: Check
    instants: Sequence[Instant]
    again: tuple[str, ...] = ()  # further arguments of the run after the kill
    stays: bool = False  # it does not end by itself


def _files(shop: Shop) -> list[str]:
    return [
        part
        for kind in ("users", "books", "ratings")
        for part in (f"--{kind}", str(shop.folder / f"{kind}.csv"))
    ]


def _new_files(shop: Shop) -> None:
    """Users, books and ratings that the shop has not, and some ratings that cannot be kept."""
    shop.loaded = number = next(shop.numbers)
    users = [1000 * number + row for row in range(1, LOADED + 1)]
    isbns = [f"L{number:04}{row:05}" for row in range(1, LOADED + 1)]
    rows = {
        "users": [["User-ID", "Location", "Age"], *([user, "york", 30] for user in users)],
        "books": [
            ["ISBN", "Book-Title", "Book-Author", "Year-Of-Publication", "Publisher"],
            *([isbn, f"Title {isbn}", "Author 1", 1999, "P"] for isbn in isbns),
        ],
        "ratings": [
            ["User-ID", "ISBN", "Book-Rating"],
            *([user, isbn, 8] for user, isbn in zip(users, isbns, strict=True)),
            *([user, isbns[0], 77] for user in users[:5]),
        ],
    }
    for kind, lines in rows.items():
        with (shop.folder / f"{kind}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(lines)


def _loaded(shop: Shop, connection: Connection) -> list[int]:
    """How many users, books, ratings and rejected rows of the last files there are."""
    first, last = 1000 * shop.loaded, 1000 * shop.loaded + 999
    row = connection.execute(
        "SELECT (SELECT count(*) FROM tterec.users WHERE user_id BETWEEN %(first)s AND %(last)s),"
        " (SELECT count(*) FROM tterec.books WHERE isbn LIKE %(isbn)s),"
        " (SELECT count(*) FROM tterec.ratings WHERE user_id BETWEEN %(first)s AND %(last)s),"
        " (SELECT count(*) FROM tterec.rejected_rows WHERE raw LIKE %(raw)s)",
        {
            "first": first,
            "last": last,
            "isbn": f"L{shop.loaded:04}%",
            "raw": f"%,L{shop.loaded:04}%",
        },
    ).fetchone()
    assert row is not None
    return list(row)


_ALL = [LOADED, LOADED, LOADED, 5]


def _half_loaded(shop: Shop, connection: Connection) -> list[str]:
    found = _loaded(shop, connection)
    staged = connection.execute("SELECT relname FROM pg_class WHERE relname ~ '^load_'").fetchall()
    return [
        *([f"half loaded: {found} of {_ALL}"] if found not in (_ALL, [0, 0, 0, 0]) else []),
        *(f"staged rows are left: {name}" for (name,) in staged),
    ]


def _not_loaded(shop: Shop, connection: Connection) -> list[str]:
    found = _loaded(shop, connection)
    return [f"loaded {found} of {_ALL}"] if found != _ALL else []


def _new_books(shop: Shop) -> None:
    """Thirty books that have no vectors yet, two users, and a rating of each."""
    first = 1_000_000 + 100 * next(shop.numbers)
    shop.new_books = list(range(first, first + 30))
    with shop.database.connect() as connection:
        connection.execute(
            "INSERT INTO tterec.books (book_id, isbn, title, author) SELECT i, 'N' || i,"
            " 'New ' || i, 'Author 3' FROM unnest(%s::bigint[]) i",
            (shop.new_books,),
        )
        for user in (first, first + 1):
            made_up.plant_ratings(connection, user, shop.new_books[:3], [8, 9, None])


def _without_vectors(shop: Shop, connection: Connection) -> list[str]:
    live = registry.live(connection)
    row = connection.execute(
        f"SELECT count(*) FROM tterec.item_vectors_{live} WHERE item_id = ANY (%s)".encode(),
        (shop.new_books,),
    ).fetchone()
    left = connection.execute("SELECT count(*) FROM tterec.changes").fetchone()
    return [
        *([f"{row} of 30 new books have vectors"] if row != (30,) else []),
        *([f"{left} rows are left in the queue"] if left != (0,) else []),
    ]


def _not_live(shop: Shop, connection: Connection) -> list[str]:
    row = connection.execute(
        "SELECT generation, (SELECT max(generation) FROM tterec.models) FROM tterec.active_model"
    ).fetchone()
    assert row is not None
    return [f"generation {row[1]} is the newest, {row[0]} is live"] if row[0] != row[1] else []


def _lock_live_vectors(connection: Connection) -> None:
    """Let nobody write item vectors of the live generation; history vectors are written before."""
    live = registry.live(connection)
    connection.execute(f"LOCK TABLE tterec.item_vectors_{live} IN SHARE MODE".encode())


def _new_ratings(shop: Shop) -> None:
    """A rating of each of thirty users: their lists are out of date."""
    book = 1 + next(shop.numbers) % BOOKS
    with shop.database.connect() as connection:
        connection.execute(
            "INSERT INTO tterec.ratings SELECT u, %s, 9 FROM generate_series(41, 70) u"
            " ON CONFLICT DO NOTHING",
            (book,),
        )


def _without_lists(shop: Shop, connection: Connection) -> list[str]:
    row = connection.execute(
        "SELECT count(*) FROM tterec.users u WHERE NOT EXISTS (SELECT FROM tterec.user_lists l,"
        " tterec.active_model a WHERE (l.generation, l.user_id) = (a.generation, u.user_id))"
        " AND EXISTS (SELECT FROM tterec.ratings r WHERE r.user_id = u.user_id)"
    ).fetchone()
    return [f"{row} users have no list"] if row != (0,) else []


def _nothing(_: Shop, __: Connection) -> list[str]:
    return []


COMMANDS = {
    one.name: one
    for one in (
        Command(
            "train",
            lambda shop: ["train", "--config", str(shop.folder / "train.toml")],
            prepare=lambda _: None,
            half=_nothing,
            done=_not_live,
            instants=(
                copying("inside COPY", "tterec.item\\_vectors\\_%", "NEW.item_id = 500"),
                indexing("inside the HNSW build"),
                waiting("between build and promotion", locks.await_promotion),
                waiting("inside promotion", "LOCK TABLE tterec.active_model IN SHARE MODE"),
            ),
        ),
        Command(
            "load",
            lambda shop: ["load", *_files(shop)],
            prepare=_new_files,
            half=_half_loaded,
            done=_not_loaded,
            instants=(
                copying("inside COPY", "pg_temp.load\\_ratings", "NEW.line = 100"),
                waiting("while it stores", "LOCK TABLE tterec.ratings IN SHARE MODE"),
                waiting("before its commit", "LOCK TABLE tterec.rejected_rows IN SHARE MODE"),
            ),
        ),
        Command(
            "update",
            lambda _: ["update"],
            prepare=_new_books,
            half=_nothing,
            done=_without_vectors,
            instants=(
                waiting("inside a batch", _lock_live_vectors),
                waiting("between batches", "LOCK TABLE tterec.user_state IN SHARE MODE"),
            ),
        ),
        Command(
            "worker",
            lambda _: ["worker"],
            prepare=_new_books,
            half=_nothing,
            done=_without_vectors,
            instants=(
                waiting("inside a batch", _lock_live_vectors),
                waiting("before its commit", "LOCK TABLE tterec.item_popularity IN SHARE MODE"),
            ),
            again=("--once",),
            stays=True,
        ),
        Command(
            "precompute",
            lambda _: ["precompute"],
            prepare=_new_ratings,
            half=_nothing,
            done=_without_lists,
            instants=(
                copying("inside COPY", "pg_temp.staged\\_lists", "NEW.user_id = 50"),
                waiting("inside a batch", "LOCK TABLE tterec.user_lists IN SHARE MODE"),
            ),
        ),
    )
    if one.name in main.list_commands(click.Context(main))
}
"""By name, those that this tterec has. A command more is a row more here."""
