"""The generated bookshop: the same everywhere, plausible to a person, with planted tastes."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter, defaultdict
from pathlib import Path
from statistics import mean

import pytest

from tterec.bookshop import Bookshop, open_bookshop
from tterec.bookshop.genres import GENRES
from tterec.bookshop.stock import Book, isbn13


@pytest.fixture(scope="module")
def shop() -> Bookshop:
    return open_bookshop(0)


def digest(shop: Bookshop, folder: Path) -> str:
    return hashlib.sha256(b"".join(f.read_bytes() for f in shop.write_csv(folder))).hexdigest()


def test_a_seed_gives_the_same_bytes_on_every_machine(tmp_path: Path) -> None:
    assert digest(open_bookshop(7, users=100, books=200), tmp_path) == (
        "064634ab79af61096c141ea9b5d44d59a86d0fa8418277ba2074b81bb7e913bd"
    )


def test_another_seed_gives_another_shop(tmp_path: Path) -> None:
    digests = {digest(open_bookshop(seed, users=20, books=50), tmp_path) for seed in range(5)}
    assert len(digests) == 5


def test_the_files_have_the_kaggle_columns_and_every_record(shop: Bookshop, tmp_path: Path) -> None:
    users, books, ratings = shop.write_csv(tmp_path)
    with users.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["User-ID", "Location", "Age"]
    assert len(rows) == len(shop.readers) == 2500
    with books.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert ",".join(rows[0]) == (
        "ISBN,Book-Title,Book-Author,Year-Of-Publication,Publisher,"
        "Image-URL-S,Image-URL-M,Image-URL-L"
    )
    assert len(rows) == len(shop.books) == 3000
    with ratings.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["User-ID", "ISBN", "Book-Rating"]
    assert len(rows) == len(shop.readings)
    assert {row["ISBN"] for row in rows} <= set(shop.by_isbn)


@pytest.mark.parametrize("number", [0, 1, 9, 10, 2999, 271_359, 99_999_999])
def test_isbns_have_a_right_check_digit_in_a_range_of_nobody(number: int) -> None:
    isbn = isbn13(number)
    assert len(isbn) == 13
    assert isbn.startswith("9799")
    weighted = (int(digit) * weight for digit, weight in zip(isbn, [1, 3] * 7, strict=False))
    assert sum(weighted) % 10 == 0


def test_isbns_and_titles_are_unique(shop: Bookshop) -> None:
    assert len(shop.by_isbn) == len({book.title for book in shop.books}) == len(shop.books)


def test_titles_have_no_unfilled_word_and_the_right_article(shop: Bookshop) -> None:
    for book in shop.books:
        assert "{" not in book.title
        assert " A O" not in f" {book.title}"


def test_nobody_reads_a_book_twice_and_ratings_are_0_to_10(shop: Bookshop) -> None:
    pairs = {(reading.user_id, reading.book) for reading in shop.readings}
    assert len(pairs) == len(shop.readings)
    assert {reading.rating for reading in shop.readings} <= set(range(11))


def test_some_three_in_ten_readings_have_no_rating(shop: Bookshop) -> None:
    unrated = sum(reading.rating == 0 for reading in shop.readings)
    assert 0.25 < unrated / len(shop.readings) < 0.35


def series_of(shop: Bookshop) -> dict[str, list[Book]]:
    series: dict[str, list[Book]] = defaultdict(list)
    for book in shop.books:
        if book.series:
            series[book.series].append(book)
    return series


def test_a_series_has_four_to_six_volumes_in_order_by_one_author(shop: Bookshop) -> None:
    series = series_of(shop)
    assert len(series) == 40
    for name, volumes in series.items():
        assert [book.volume for book in volumes] == list(range(1, len(volumes) + 1))
        assert 4 <= len(volumes) <= 6
        assert len({(book.author, book.genre) for book in volumes}) == 1
        assert [book.year for book in volumes] == sorted({book.year for book in volumes})
        assert all(f"{name} {book.volume}: " in book.title for book in volumes)


def test_series_are_read_in_order_and_most_readers_of_three_volumes_go_on(
    shop: Bookshop,
) -> None:
    went_on, stopped = 0, 0
    for volumes in series_of(shop).values():
        places = [shop.books.index(book) for book in volumes]
        for shelf in shop.shelves.values():
            read = [place in shelf for place in places]
            assert read == sorted(read, reverse=True)
            went_on += read[3]
            stopped += read[2] and not read[3]
    assert stopped == len(shop.waiting_for_volume_four())
    assert stopped >= 400
    assert went_on > 5 * stopped


def test_popularity_is_skewed(shop: Bookshop) -> None:
    counts = sorted(Counter(reading.book for reading in shop.readings).values(), reverse=True)
    assert sum(counts[:300]) > 0.4 * len(shop.readings)  # a tenth of the books


def test_readers_read_and_like_their_favourite_genres(shop: Bookshop) -> None:
    favourites = {reader.user_id: reader.favourites[:2] for reader in shop.readers}
    ratings: dict[bool, list[int]] = {True: [], False: []}
    for reading in shop.readings:
        wanted = shop.books[reading.book].genre in favourites[reading.user_id]
        ratings[wanted].append(reading.rating)
    assert len(ratings[True]) > 3 * len(ratings[False])
    assert mean(filter(None, ratings[True])) > mean(filter(None, ratings[False])) + 1


def test_age_goes_with_taste(shop: Bookshop) -> None:
    ages: dict[str, list[int]] = defaultdict(list)
    for reader in shop.readers:
        if reader.age is not None:
            ages[reader.favourites[0]].append(reader.age)
    assert set(ages) == {genre.name for genre in GENRES}
    assert mean(ages["children"]) < mean(ages["sci-fi"]) < mean(ages["history"])


def test_the_guest_waits_for_one_fourth_volume(shop: Bookshop) -> None:
    guest = shop.guest()
    assert [user for user, _ in shop.waiting_for_volume_four()].count(guest) == 1
    assert 10 <= len(shop.shelves[guest]) <= 13


@pytest.mark.parametrize(("users", "books"), [(1, 1), (3, 10), (50, 9), (20, 15)])
def test_a_tiny_shop_is_a_shop(users: int, books: int, tmp_path: Path) -> None:
    shop = open_bookshop(0, users=users, books=books)
    assert (len(shop.readers), len(shop.books)) == (users, books)
    assert shop.guest() in shop.shelves
    shop.write_csv(tmp_path)
