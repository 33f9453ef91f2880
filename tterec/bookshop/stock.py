"""The books on the shelves: titles, authors, imprints, series."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from tterec.bookshop import names
from tterec.bookshop.chance import Chance, Urn
from tterec.bookshop.genres import GENRES, Genre

BOOKS_PER_AUTHOR = 6
BOOKS_PER_SERIES = 75
VOLUMES = (4, 6)
"""A series has at least and at most this many volumes."""


@dataclass(frozen=True, slots=True)
class Book:
    """A book; `volume` counts from 1 within `series`, 0 outside any. `quality` is -1.2 to 1.2."""

    isbn: str
    title: str
    author: str
    publisher: str
    year: int
    genre: str
    series: str
    volume: int
    quality: float


@dataclass(frozen=True, slots=True)
class _Author:
    name: str
    publisher: str
    first_year: int


def stock(chance: Chance, size: int) -> list[Book]:
    """Books of every genre in equal parts, `size` in all; ISBNs in the order of the list."""
    authors = _author_names(chance)
    taken: set[str] = set()
    shelves = [
        list(_shelf(chance, genre, authors, taken, size // len(GENRES) + (place < spare)))
        for spare in (size % len(GENRES),)
        for place, genre in enumerate(GENRES)
    ]
    return [
        Book(isbn13(number), *entry)
        for number, entry in enumerate(entry for shelf in shelves for entry in shelf)
    ]


_Entry = tuple[str, str, str, int, str, str, int, float]


def _shelf(
    chance: Chance, genre: Genre, writers: Iterator[str], taken: set[str], size: int
) -> Iterator[_Entry]:
    """The books of one genre, without their ISBNs."""
    authors = [
        _Author(name, chance.one_of(genre.imprints), chance.between(1962, 2008))
        for name in islice(writers, max(1, size // BOOKS_PER_AUTHOR))
    ]
    # A few authors write much: 1 / (rank + 3).
    urn = Urn(authors, [1 / (rank + 3) for rank in range(len(authors))])
    left = size
    for number in range(round(size / BOOKS_PER_SERIES)):
        volumes = min(chance.between(*VOLUMES), left)
        # Each series has an author of its own as long as there are authors.
        author = authors[number % len(authors)]
        series = _unused(chance, genre.series, genre, taken)
        year = author.first_year
        quality = 0.8 * chance.uniform()  # nobody writes a fourth volume of a failure
        for volume in range(1, volumes + 1):
            title = f"{series} {volume}: {_unused(chance, genre.patterns, genre, taken)}"
            yield (title, author.name, author.publisher, year, genre.name, series, volume, quality)
            year += chance.between(1, 2)
        left -= volumes
    for _ in range(left):
        author = urn.draw(chance)
        title = _unused(chance, genre.patterns, genre, taken)
        publisher = author.publisher if chance.happens(0.9) else chance.one_of(genre.imprints)
        year = min(author.first_year + chance.between(0, 24), 2024)
        quality = 0.8 * chance.bell()
        yield (title, author.name, publisher, year, genre.name, "", 0, quality)


def _author_names(chance: Chance) -> Iterator[str]:
    pairs = [(first, last) for first in names.FIRST_NAMES for last in names.SURNAMES]
    return (f"{first} {last}" for first, last in chance.shuffled(pairs))


def town_name(chance: Chance) -> str:
    """An invented town, like Otterbury."""
    return chance.one_of(names.TOWN_STARTS) + chance.one_of(names.TOWN_ENDS)


def _unused(chance: Chance, patterns: tuple[str, ...], genre: Genre, taken: set[str]) -> str:
    """A title that no other book has; after many attempts in vain, one with a number."""
    for attempt in range(1000):
        title = _filled(chance, chance.one_of(patterns), genre)
        if attempt >= 200:  # a shop of hundreds of thousands of books runs out of words
            title += f" {chance.between(2, 9 * attempt)}"
        if title not in taken:
            break
    taken.add(title)
    return title


def _filled(chance: Chance, pattern: str, genre: Genre) -> str:
    thing = chance.one_of(genre.thing)
    other = chance.one_of([word for word in genre.thing if word != thing])
    title = pattern.format(
        adjective=chance.one_of(genre.adjective),
        noun=chance.one_of(genre.noun),
        thing=thing,
        other=other,
        town=town_name(chance),
        name=chance.one_of(names.SURNAMES),
        first=chance.one_of(names.FIRST_NAMES),
        realm=chance.one_of(names.REALMS),
        number=chance.one_of(names.NUMBERS),
    )
    return re.sub(r"\b([Aa]) (?=[AEIOU])", r"\1n ", title)


def isbn13(number: int) -> str:
    """An ISBN-13 with a right check digit in 979-9, a range that is assigned to nobody.

    Check digit: ISO 2108, weights 1 and 3 alternating, modulo 10.
    """
    body = f"9799{number:08d}"
    total = sum(int(digit) * (3 if place % 2 else 1) for place, digit in enumerate(body))
    return f"{body}{-total % 10}"
