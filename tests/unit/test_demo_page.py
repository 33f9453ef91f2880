"""The demo's two columns fit the terminal, and every book of the list is on them."""

from __future__ import annotations

import click
import pytest

from tterec.bookshop import Book, open_bookshop
from tterec.cli import demo as cli_demo
from tterec.database.connection import Database
from tterec.demo import Tour
from tterec.records import Recommendation


@pytest.fixture(scope="module")
def tour() -> Tour:
    shop = open_bookshop(0, users=500, books=1000)
    guest, awaited = shop.waiting_for_volume_four()[0]
    books: list[Book] = [awaited, *sorted(shop.books, key=lambda book: -len(book.title))[:9]]
    return Tour(
        database=Database("postgresql://postgres@/tterec_demo?host=/x", "demo"),
        shop=shop,
        reader=shop.readers[guest - 1],
        read=[(shop.books[place], rating) for place, rating in shop.shelves[guest].items()],
        recommended=[
            (Recommendation(rank, rank, book.isbn, book.title, 0.5, 0.5, "history"), book)
            for rank, book in enumerate(books, start=1)
        ],
        awaited=awaited,
    )


def page(tour: Tour, width: int) -> list[str]:
    return [click.unstyle(line) for line in cli_demo._page(tour, width)]


@pytest.mark.parametrize("width", [60, 72, 80, 120, 140])
def test_no_line_is_wider_than_the_terminal(tour: Tour, width: int) -> None:
    assert max(len(line) for line in page(tour, width)) <= width


@pytest.mark.parametrize("width", [80, 120])
def test_rank_and_genre_of_all_ten_stand_in_the_right_column(tour: Tour, width: int) -> None:
    half = (width + 3) // 2
    right = [line[half:].split() for line in page(tour, width)]
    found = [words for words in right if words and words[0].isdigit()]
    assert [int(words[0]) for words in found] == list(range(1, 11))
    assert [words[-1] for words in found] == [book.genre for _, book in tour.recommended]


def test_at_120_columns_no_title_is_cut(tour: Tour) -> None:
    assert not any("…" in line for line in page(tour, 120))


def test_a_reader_of_many_books_is_shown_with_the_number_of_the_rest(tour: Tour) -> None:
    many = [(book, 7) for book in tour.shop.books[:30]]
    longer = Tour(tour.database, tour.shop, tour.reader, many, tour.recommended, tour.awaited)
    assert any("and 18 more" in line for line in page(longer, 100))


def test_the_awaited_volume_is_named_with_its_rank(tour: Tour) -> None:
    assert tour.awaited is not None
    said = " ".join(page(tour, 80))
    assert f"“{tour.awaited.series}”: volume 4 is number 1." in said
    missing = Tour(tour.database, tour.shop, tour.reader, tour.read, [], tour.awaited)
    assert "is not among the ten" in " ".join(page(missing, 80))
