"""The bookshop as a whole, and its three CSV files."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from tterec.bookshop.chance import Chance
from tterec.bookshop.readers import Reader, Reading, Readings, readers
from tterec.bookshop.stock import Book, stock

READERS = 2500
BOOKS = 3000


@dataclass(frozen=True)
class Bookshop:
    """Books, readers and what they read; the same for the same seed on every machine."""

    seed: int
    books: list[Book]
    readers: list[Reader]
    readings: list[Reading]

    @cached_property
    def by_isbn(self) -> dict[str, Book]:
        """The books by their ISBN."""
        return {book.isbn: book for book in self.books}

    @cached_property
    def shelves(self) -> dict[int, dict[int, int]]:
        """For each reader the books (places in `books`) they read, and their ratings."""
        shelves: dict[int, dict[int, int]] = {reader.user_id: {} for reader in self.readers}
        for reading in self.readings:
            shelves[reading.user_id][reading.book] = reading.rating
        return shelves

    def waiting_for_volume_four(self) -> list[tuple[int, Book]]:
        """The readers of volumes 1 to 3 of a series who have not read volume 4, which is given.

        A reader who waits for several fourth volumes stands there once for each.
        """
        series: dict[str, list[int]] = {}
        for place, book in enumerate(self.books):
            if book.series:
                series.setdefault(book.series, []).append(place)
        return [
            (user_id, self.books[volumes[3]])
            for user_id, shelf in self.shelves.items()
            for volumes in series.values()
            if len(volumes) > 3
            and [place in shelf for place in volumes[:4]] == [True] * 3 + [False]
        ]

    def guest(self) -> int:
        """The user_id of a reader whose list is worth showing.

        One who waits for a fourth volume, likes two genres, has read neither few books nor many
        and has said how they liked most of them; else whoever waits, else the first reader.
        """
        waiting = [user_id for user_id, _ in self.waiting_for_volume_four()]
        for user_id in waiting:
            ratings = list(self.shelves[user_id].values())
            genres = Counter(self.books[place].genre for place in self.shelves[user_id])
            two = len(genres) > 1 and genres.most_common(2)[1][1] >= 4
            if two and 10 <= len(ratings) <= 13 and ratings.count(0) < 4:
                return user_id
        return waiting[0] if waiting else self.readers[0].user_id

    @cached_property
    def digest(self) -> str:
        """SHA-256 over books, readers and readings, as hexadecimal digits."""
        return sha256(repr((self.books, self.readers, self.readings)).encode()).hexdigest()

    def write_csv(self, folder: Path) -> tuple[Path, Path, Path]:
        """Write Users.csv, Books.csv and Ratings.csv with the Kaggle columns; their paths."""
        users = _write(
            folder / "Users.csv",
            ("User-ID", "Location", "Age"),
            ((r.user_id, r.location, "" if r.age is None else r.age) for r in self.readers),
        )
        books = _write(
            folder / "Books.csv",
            (
                *("ISBN", "Book-Title", "Book-Author", "Year-Of-Publication", "Publisher"),
                *("Image-URL-S", "Image-URL-M", "Image-URL-L"),
            ),
            ((b.isbn, b.title, b.author, b.year, b.publisher, "", "", "") for b in self.books),
        )
        ratings = _write(
            folder / "Ratings.csv",
            ("User-ID", "ISBN", "Book-Rating"),
            ((r.user_id, self.books[r.book].isbn, r.rating) for r in self.readings),
        )
        return users, books, ratings


def _write(path: Path, header: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
    return path


def open_bookshop(seed: int = 0, *, users: int = READERS, books: int = BOOKS) -> Bookshop:
    """Invent a bookshop: books in ten genres, series, readers with tastes, their ratings."""
    chance = Chance(seed)
    shelves = stock(chance, books)
    people = readers(chance, users)
    choose = Readings(chance, shelves)
    return Bookshop(seed, shelves, people, [one for reader in people for one in choose.of(reader)])
