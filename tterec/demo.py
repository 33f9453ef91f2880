"""The demo: a generated bookshop, the whole way from CSV files to recommendations."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tterec import config, pipeline
from tterec.bookshop import Book, Bookshop, Reader, open_bookshop
from tterec.config import TrainingConfig
from tterec.database.connection import Database
from tterec.recommender import Recommender
from tterec.records import Progress, ProgressCallback, Recommendation, ignore
from tterec.store import demo_database


@dataclass(frozen=True)
class Tour:
    """What the demo ends with: a reader, what they read, and what they are recommended.

    `read` has the ratings 1-10, or 0 where the reader gave none, best first; `recommended` the
    ten lines of the list, each with its book. `awaited` is the next volume of a series that the
    reader is in the middle of, if there is one.
    """

    database: Database
    shop: Bookshop
    reader: Reader
    read: list[tuple[Book, int]]
    recommended: list[tuple[Recommendation, Book]]
    awaited: Book | None


def take_tour(
    database_url: str | None = None, seed: int = 0, progress: ProgressCallback = ignore
) -> Tour:
    """Generate, load, train, publish and recommend; a message for each stage with its seconds.

    Without a URL it works in a database of its own on the embedded server. Taken again, it loads
    nothing new, trains anew and prunes what it trained before. Raises InvalidArgument if the
    database holds other data.
    """
    with _stage(progress, "Postgres"):
        database = _database(database_url, seed)
        with database.connect():
            pass  # it is there, and lets us in
    with _stage(progress, "Schema"):
        pipeline.upgrade(database)
    with _stage(progress, "Bookshop"):
        shop = open_bookshop(seed)
        with database.connect() as connection:
            demo_database.claim(connection, f"seed {seed}, {shop.digest[:12]}")
    with _stage(progress, "Load"), tempfile.TemporaryDirectory(prefix="tterec-") as folder:
        users, books, ratings = shop.write_csv(Path(folder))
        pipeline.load(database, users=users, books=books, ratings=ratings, progress=progress)
    with _stage(progress, "Train and publish"):
        pipeline.train(database, TrainingConfig(seed=seed, threads=1), progress=progress)
        pipeline.models_prune(database)
    with _stage(progress, "Recommend"):
        guest = shop.guest()
        with Recommender(database.url) as recommender:
            ranked = recommender.recommend(guest, k=10)
    return _tour(database, shop, guest, ranked)


def _database(database_url: str | None, seed: int) -> Database:
    if config.database_target(database_url).url is not None:
        return Database.resolve(database_url)
    return demo_database.on_embedded_server(demo_database.NAME + (f"_{seed}" if seed else ""))


@contextmanager
def _stage(progress: ProgressCallback, name: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    progress(Progress(name, message=f"{name:.<24}{time.perf_counter() - began:.>8.1f} s"))


def _tour(database: Database, shop: Bookshop, guest: int, ranked: list[Recommendation]) -> Tour:
    shelf = shop.shelves[guest]
    read = [(shop.books[place], rating) for place, rating in shelf.items()]
    awaited = [book for user_id, book in shop.waiting_for_volume_four() if user_id == guest]
    return Tour(
        database=database,
        shop=shop,
        reader=shop.readers[guest - 1],
        read=sorted(read, key=lambda pair: (-pair[1], pair[0].title)),
        recommended=[(one, shop.by_isbn[one.isbn]) for one in ranked if one.isbn],
        awaited=awaited[0] if awaited else None,
    )
