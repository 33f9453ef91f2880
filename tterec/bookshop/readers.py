"""The readers: who they are, what they like, what they read and how they rate it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from tterec.bookshop import names
from tterec.bookshop.chance import Chance, Urn
from tterec.bookshop.genres import GENRES
from tterec.bookshop.stock import Book, town_name

READERS_PER_TOWN = 14
SHARE_WITHOUT_AGE = 0.2
SHARE_WITHOUT_RATING = 0.3
AUTHOR_LOYALTY = 0.25
"""Share of choices that go to an author whom the reader has liked before."""
SERIES_SHARE = 0.25
"""Share of choices in a favourite genre that begin a series."""
GOES_ON = 0.97
"""How likely the reader of one volume is to read the next."""
IN_THE_MIDDLE = 0.2
"""Share of readers who have just finished volume 3 of a series of their favourite genre."""


@dataclass(frozen=True, slots=True)
class Reader:
    """A reader; the favourite genres stand first to third. `age` is None where it is not told."""

    user_id: int
    location: str
    age: int | None
    favourites: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """A reader's copy: `book` is the place in the stock; `rating` 1-10, or 0 for unrated."""

    user_id: int
    book: int
    rating: int


def readers(chance: Chance, size: int) -> list[Reader]:
    """Readers numbered from 1. Age, town and luck decide, in this order, what they like."""
    towns = []
    for _ in range(max(1, size // READERS_PER_TOWN)):
        country, regions = chance.one_of(names.COUNTRIES)
        location = f"{town_name(chance).lower()}, {chance.one_of(regions)}, {country}"
        towns.append((location, chance.one_of(GENRES).name))
    kinds = [genre.name for genre in GENRES]
    people = []
    for user_id in range(1, size + 1):
        location, local = chance.one_of(towns)
        age = 13 + int(70 * chance.uniform() * (0.5 + 0.5 * chance.uniform()))
        by_age = Urn(kinds, [_affinity(age, g.peak_age, g.age_width) for g in GENRES])
        wished = [by_age.draw(chance)]
        wished.append(local if chance.happens(0.3) else by_age.draw(chance))
        wished.append(chance.one_of(kinds))
        told = None if chance.happens(SHARE_WITHOUT_AGE) else age
        people.append(Reader(user_id, location, told, tuple(dict.fromkeys(wished))))
    return people


def _affinity(age: int, peak: int, width: int) -> float:
    distance = (age - peak) / width
    return 1 / (1 + distance * distance * distance * distance)


class Readings:
    """Lets readers choose books from a stock."""

    def __init__(self, chance: Chance, books: list[Book]) -> None:
        self._chance = chance
        self._books = books
        self._volumes: dict[str, list[int]] = defaultdict(list)
        self._by_author: dict[str, list[int]] = defaultdict(list)
        single: dict[str, list[int]] = defaultdict(list)
        for place, book in enumerate(books):
            self._by_author[book.author].append(place)
            if book.series:
                self._volumes[book.series].append(place)
            else:
                single[book.genre].append(place)
        # Zipf: the n-th most popular book of a genre is wanted 1 / (n + 5) times as often.
        self._singles = {
            genre: Urn(chance.shuffled(places), [1 / (rank + 5) for rank in range(len(places))])
            for genre, places in single.items()
        }
        series: dict[str, list[str]] = defaultdict(list)
        for name, places in self._volumes.items():
            series[books[places[0]].genre].append(name)
        self._series = {
            genre: Urn(chance.shuffled(names), [1 / (rank + 4) for rank in range(len(names))])
            for genre, names in series.items()
        }

    def of(self, reader: Reader) -> list[Reading]:
        """What one reader has read, in the order of reading."""
        chance = self._chance
        wanted = int(9 / (chance.uniform() + 0.09))  # 8 to 100, 22 in the mean
        shares = (0.56, 0.26, 0.1)[: len(reader.favourites)]
        urn = Urn((*reader.favourites, ""), (*shares, 0.08))
        read: dict[int, int] = {}
        liked: list[str] = []
        current = self._current(reader)
        for place in current[:3]:
            self._read(reader, place, read, liked)
        for _ in range(4 * wanted):  # bounded: a small shop may have been read to its end
            if len(read) >= wanted:
                break
            genre = urn.draw(chance) or chance.one_of(GENRES).name
            chosen = self._chosen(reader, genre, liked)
            if chosen is None or chosen in current:
                continue
            for place in self._with_the_rest(chosen):
                self._read(reader, place, read, liked)
        return [Reading(reader.user_id, place, rating) for place, rating in read.items()]

    def _current(self, reader: Reader) -> list[int]:
        """The volumes of the series that the reader is in the middle of, if there is one."""
        series = self._series.get(reader.favourites[0])
        if series is None or not self._chance.happens(IN_THE_MIDDLE):
            return []
        return self._volumes[series.draw(self._chance)]

    def _chosen(self, reader: Reader, genre: str, liked: list[str]) -> int | None:
        chance = self._chance
        if liked and chance.happens(AUTHOR_LOYALTY):
            return chance.one_of(self._by_author[liked[-1]])
        favourite = genre in reader.favourites[:2]
        if favourite and genre in self._series and chance.happens(SERIES_SHARE):
            return self._volumes[self._series[genre].draw(chance)][0]
        return self._singles[genre].draw(chance) if genre in self._singles else None

    def _with_the_rest(self, place: int) -> list[int]:
        """The book; of a series all volumes, from the first to where the reader stops."""
        volumes = self._volumes.get(self._books[place].series, [place])
        chosen = volumes[:1]
        for volume in volumes[1:]:
            if not self._chance.happens(GOES_ON):
                break
            chosen.append(volume)
        return chosen

    def _read(self, reader: Reader, place: int, read: dict[int, int], liked: list[str]) -> None:
        if place in read:
            return
        read[place] = self._rating(reader, place, liked)
        if read[place] >= 8:
            liked.append(self._books[place].author)

    def _rating(self, reader: Reader, place: int, liked: list[str]) -> int:
        if self._chance.happens(SHARE_WITHOUT_RATING):
            return 0
        book = self._books[place]
        match = 1.3 if book.genre in reader.favourites[:2] else -1.2
        loyal = 0.6 if book.author in liked else 0.0
        meant = 6.6 + match + loyal + book.quality + 1.3 * self._chance.bell()
        return min(max(int(meant + 0.5), 1), 10)
