"""Makes a shop of real size: books, users with ratings, and a live generation.

    python -m tests.benchmarks.big_shop --database-url URL [--books 270000] [--users 280000]

Nothing is trained: vectors have the geometry of trained ones, the second stage is as full as a
fitted one. A database that is given by URL keeps the shop; without, it is built on a server of its
own, which goes again: that tells how long it takes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.own_server import own_server
from tests.integration import generations
from tterec import pipeline
from tterec.database import vectors
from tterec.database.connection import Connection, Database
from tterec.ranking.second_stage import LEADS
from tterec.records import Ranker, TrainedVectors

_ROWS_A_CHUNK = 4096
_HEAVY = 200
"""With so many ratings a user is one who has met most of what is near by."""
_MINUTE = 60_000_000  # timestamps count microseconds from 2000
_FIRST = 24 * 365 * 24 * 60  # and these begin in December 2023


@dataclass(frozen=True)
class Shop:
    """What to make. Users 1 to `users` have `ratings` each; those after them are heavy ones.

    heavy: pairs of how many ratings, at most half of the books, and how many users have them.
    """

    books: int = 270_000
    users: int = 280_000
    ratings: int = 20
    heavy: tuple[tuple[int, int], ...] = ((200, 50), (2_000, 10), (12_860, 2))
    dim: int = 64
    second_stage: bool = True
    ef_search: int = 200

    def heavy_users(self) -> dict[int, range]:
        """The heavy users' ids by how many ratings they have."""
        found, first = {}, self.users + 1
        for ratings, users in self.heavy:
            found[ratings] = range(first, first + users)
            first += users
        return found

    @property
    def everybody(self) -> int:
        """How many users there are, which is the last one's id."""
        return self.users + sum(users for _, users in self.heavy)


def _genre_shares(books: int) -> NDArray[np.float64]:
    """How many of the books are of each genre, and of how many readers it is the favourite."""
    sizes = np.arange(1, min(600, max(books // 50, 1)) + 1) ** -0.7
    return sizes / sizes.sum()


def unit(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows divided by their norms."""
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


def trained_vectors(
    books: int, *, users: int = 0, dim: int = 64, seed: int = 0
) -> tuple[TrainedVectors, NDArray[np.int64]]:
    """Vectors like trained ones, and each book's genre; of users, small profile vectors.

    Genres of Zipf size round centres whose spectrum decays; a book's cosine with its genre's
    centre is some 0.75, and history vectors point where the embeddings do.
    """
    random = np.random.default_rng(seed)
    spectrum = np.arange(1, dim + 1) ** -0.35
    shares = _genre_shares(books)
    centres = unit(random.normal(size=(len(shares), dim)) * spectrum)
    genres = random.choice(len(shares), size=books, p=shares)
    noise = unit(random.normal(size=(books, dim)) * spectrum)
    items = unit(centres[genres] + 0.9 * noise)
    history = items + 0.3 * unit(random.normal(size=(books, dim)))
    default_profile = (random.normal(size=dim) * 0.05).astype(np.float32)
    profiles = random.normal(size=(users, dim)).astype(np.float32) * 0.03
    return (
        TrainedVectors(
            item_ids=np.arange(1, books + 1),
            item_embeddings=items.astype(np.float32),
            history_vectors=history.astype(np.float32),
            user_ids=np.arange(1, users + 1),
            profile_vectors=default_profile + profiles,
            default_profile=default_profile,
            history_weights=generations.HISTORY_WEIGHTS,
            normalised=True,
            max_history=200,
        ),
        genres,
    )


class _Draw:
    """Draws books of a genre; the first ones of each genre are its most popular."""

    def __init__(self, genres: NDArray[np.int64], seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self._by_genre = np.argsort(genres, kind="stable")
        self._sizes = np.bincount(genres, minlength=600)
        self._starts = np.cumsum(self._sizes) - self._sizes

    def __call__(self, genres: NDArray[np.int64]) -> NDArray[np.int64]:
        """A row of a book for each genre; of any genre where it has no book."""
        sizes, starts = self._sizes[genres], self._starts[genres]
        within = starts + (self.random.random(genres.shape) ** 2 * sizes).astype(np.int64)
        anywhere = self.random.integers(0, len(self._by_genre), genres.shape)
        return self._by_genre[np.where(sizes > 0, within, anywhere)]


def ranker(genres: NDArray[np.int64], *, candidates: int = 200, seed: int = 2) -> Ranker:
    """A second stage: 30 to 100 weights a book, mostly of its genre, as many leads as a fitted
    one has, and an author."""
    draw, books = _Draw(genres, seed), len(genres)
    authors = max(books // 3, 1)
    of_book = draw.random.integers(0, authors, books)
    lengths = draw.random.integers(30, 101, books)
    owners = np.repeat(np.arange(books), lengths)
    sources = np.where(
        draw.random.random(len(owners)) < 0.9,
        draw(genres[owners]),
        draw.random.integers(0, books, len(owners)),
    )
    width = books + authors
    cells = np.unique(owners * width + sources)
    cells = np.sort(np.concatenate([cells, np.arange(books) * width + books + of_book]))
    weights = np.abs(draw.random.normal(0, 0.05, len(cells))).astype(np.float32)
    return Ranker(
        item_ids=np.arange(1, books + 1),
        offsets=np.searchsorted(cells, np.arange(books + 1) * width),
        sources=cells % width,
        weights=weights,
        leads=draw(np.repeat(genres[:, None], LEADS, axis=1)) + 1,
        width=width,
        trait_offsets=np.arange(books + 1),
        traits=books + of_book,
        similarity_weight=0.5,
        unrated_weight=0.6,
        candidates=candidates,
    )


def _of_heavy(
    lengths: NDArray[np.int64], vectors: NDArray[np.float32], random: np.random.Generator
) -> NDArray[np.int64]:
    """The books of users with so many each, one after the other.

    Training puts a user among their books: of Book-Crossing's readers of hundreds and more, half to
    three quarters of what they met is what is nearest to their vector.
    """
    found = []
    for length in lengths.tolist():
        nearest = vectors @ vectors[random.integers(len(vectors))]
        near = np.argpartition(-nearest, int(0.63 * length))[: int(0.63 * length) + 1]
        books = random.choice(near, int(0.6 * length), replace=False)
        others = np.setdiff1d(np.arange(len(vectors)), books)
        found.append(np.append(books, random.choice(others, length - len(books), replace=False)))
    return np.concatenate(found) if found else np.zeros(0, np.int64)


def _ratings(
    shop: Shop, genres: NDArray[np.int64], vectors: NDArray[np.float32]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of user and book, ordered by user: most are of two genres that the user likes, or,
    of heavy users, near to one another."""
    draw = _Draw(genres, 1)
    lengths = np.full(shop.everybody, shop.ratings)
    for ratings, users in shop.heavy_users().items():
        lengths[users.start - 1 : users.stop - 1] = ratings
    lengths = np.minimum(lengths, shop.books // 2)
    heavy = np.flatnonzero(lengths >= _HEAVY)
    # Some are drawn twice, and count once.
    owners = np.repeat(np.arange(shop.everybody), np.where(lengths < _HEAVY, 3 * lengths, 0))
    shares = _genre_shares(shop.books)
    liked = draw.random.choice(len(shares), (shop.everybody, 2), p=shares)
    of_genre = draw(liked[owners, draw.random.integers(0, 2, len(owners))])
    anywhere = draw.random.integers(0, shop.books, len(owners))
    books = np.where(draw.random.random(len(owners)) < 0.6, of_genre, anywhere)
    first = np.sort(np.unique(owners * shop.books + books, return_index=True)[1])
    owners, books = owners[first], books[first]
    places = np.arange(len(owners)) - np.searchsorted(owners, owners)
    kept = places < lengths[owners]
    owners = np.append(owners[kept], np.repeat(heavy, lengths[heavy]))
    books = np.append(books[kept], _of_heavy(lengths[heavy], vectors, draw.random))
    order = np.argsort(owners, kind="stable")
    return owners[order] + 1, books[order] + 1


def _copied(users: NDArray[np.int64], books: NDArray[np.int64]) -> Iterator[bytes]:
    """The stream of `COPY tterec.ratings FROM STDIN (FORMAT binary)`; two in five not rated."""
    random = np.random.default_rng(3)
    fields: list[tuple[str, str]] = [
        *(("fields", ">i2"), ("user_bytes", ">i4"), ("user", ">i8")),
        *(("book_bytes", ">i4"), ("book", ">i8"), ("rating_bytes", ">i4")),
    ]
    end = [("time_bytes", ">i4"), ("time", ">i8")]
    rated_layout = np.dtype([*fields, ("rating", ">f4"), *end])
    unrated_layout = np.dtype(fields + end)
    yield vectors.SIGNATURE
    for start in range(0, len(users), _ROWS_A_CHUNK):
        part = slice(start, start + _ROWS_A_CHUNK)
        rated = random.random(len(users[part])) < 0.6
        for layout, mine in ((rated_layout, rated), (unrated_layout, ~rated)):
            rows = np.empty(int(mine.sum()), dtype=layout)
            rows["fields"], rows["user_bytes"], rows["book_bytes"] = 4, 8, 8
            rows["user"], rows["book"] = users[part][mine], books[part][mine]
            rows["rating_bytes"] = -1
            if layout is rated_layout:
                rows["rating_bytes"] = 4
                rows["rating"] = 10 - random.integers(0, 10, len(rows)) ** 2 // 10
            rows["time_bytes"] = 8
            rows["time"] = (_FIRST + random.integers(0, 10**6, len(rows))) * _MINUTE
            yield rows.tobytes()
    yield vectors.TRAILER


def _load(
    connection: Connection, shop: Shop, genres: NDArray[np.int64], embeddings: NDArray[np.float32]
) -> None:
    connection.execute(
        "INSERT INTO tterec.books (book_id, isbn, title, author, publisher, year)"
        " SELECT i, to_char(i, 'FM0000000000'), 'Book ' || i || ', ' || left(md5(i::text), 20),"
        "  'Author ' || i %% greatest(%(books)s / 3, 1), 'Publisher ' || i %% 97, 1950 + i %% 60"
        " FROM generate_series(1, %(books)s) i",
        {"books": shop.books},
    )
    connection.execute(
        "INSERT INTO tterec.users (user_id, age) SELECT i, 12 + i %% 70"
        " FROM generate_series(1, %s) i",
        (shop.everybody,),
    )
    # Keys and foreign keys that are made afterwards are checked all at once, not row by row.
    constraints = connection.execute(
        "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE conrelid = 'tterec.ratings'::regclass AND contype IN ('p', 'f')"
        " ORDER BY contype DESC"
    ).fetchall()
    dropped = ", ".join(f"DROP CONSTRAINT {name}" for name, _ in constraints)
    added = ", ".join(f"ADD CONSTRAINT {name} {text}" for name, text in constraints)
    connection.execute(f"ALTER TABLE tterec.ratings DISABLE TRIGGER USER, {dropped}".encode())
    connection.execute("DROP INDEX tterec.ratings_book_id_idx")
    statement = "COPY tterec.ratings (user_id, book_id, rating, rated_at) FROM STDIN"
    with connection.cursor().copy(f"{statement} (FORMAT binary)".encode()) as copy:
        for block in _copied(*_ratings(shop, genres, embeddings)):
            copy.write(block)
    connection.execute("CREATE INDEX ratings_book_id_idx ON tterec.ratings (book_id)")
    connection.execute(f"ALTER TABLE tterec.ratings {added}, ENABLE TRIGGER USER".encode())


def build(connection: Connection, shop: Shop) -> int:
    """Fill a database that has the schema and no data; the live generation's number."""
    trained, genres = trained_vectors(shop.books, users=shop.everybody, dim=shop.dim)
    _load(connection, shop, genres, trained.item_embeddings)
    generation = generations.plant(
        connection,
        trained,
        ranker=ranker(genres) if shop.second_stage else None,
        ef_search=shop.ef_search,
    )
    connection.commit()
    connection.autocommit = True
    connection.execute("VACUUM ANALYZE")
    connection.autocommit = False
    return generation


def ensure(database: Database, shop: Shop) -> None:
    """Upgrade the database, and build the shop unless it is there already."""
    pipeline.upgrade(database)
    with database.connect() as connection:
        found = connection.execute(
            "SELECT (SELECT count(*) FROM tterec.books), (SELECT count(*) FROM tterec.users)"
        ).fetchone()
        if found == (0, 0):
            build(connection, shop)
        elif found != (shop.books, shop.everybody):
            raise SystemExit(f"the database has {found} books and users, not those of {shop}")


def main() -> None:
    """Build the shop; print how long it took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--database-url")
    parser.add_argument("--books", type=int, default=Shop.books)
    parser.add_argument("--users", type=int, default=Shop.users)
    parser.add_argument("--dim", type=int, default=Shop.dim)
    parser.add_argument("--no-second-stage", action="store_true")
    given = parser.parse_args()
    shop = Shop(
        books=given.books,
        users=given.users,
        dim=given.dim,
        second_stage=not given.no_second_stage,
    )
    with ExitStack() as stack:
        url = given.database_url
        database = Database(url) if url else stack.enter_context(own_server())
        start = time.perf_counter()
        ensure(database, shop)
        print(f"{shop} in {time.perf_counter() - start:,.0f} s")


if __name__ == "__main__":
    main()
