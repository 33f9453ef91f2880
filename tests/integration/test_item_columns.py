"""Columns of the items query, for the items of a list, as of now."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest

from tests.integration.test_sources import FILM_QUERIES, plant_films
from tests.integration.test_sources import keys as keys_of
from tterec import errors
from tterec.database.connection import Database
from tterec.database.roles import READER
from tterec.store import reading, sources
from tterec.store.item_columns import item_columns

NOTHING = np.zeros(0, np.int64)


def plant_books(database: Database) -> None:
    """Three of our own books."""
    with database.connect() as connection:
        connection.execute(
            "INSERT INTO tterec.books (book_id, isbn, author, year) VALUES"
            " (10, 'a', 'Ann', 1999), (11, 'b', NULL, NULL), (12, 'c', 'Bob', 2001)"
        )


def test_columns_come_in_the_order_of_the_ids(database: Database) -> None:
    plant_books(database)
    with database.connect() as connection:
        author, year = item_columns(
            connection,
            [("author", ("text",)), ("year", ("number", "date"))],
            np.array([12, 11, 99, 10, 12]),
        )
    assert (author.name, author.kind) == ("author", "text")
    assert author.values.tolist() == ["Bob", None, None, "Ann", "Bob"]
    assert (year.name, year.kind) == ("year", "number")
    assert year.values.tolist() == pytest.approx([2001, np.nan, np.nan, 1999, 2001], nan_ok=True)


def test_any_column_can_be_asked_for_as_text_and_one_twice(database: Database) -> None:
    plant_books(database)
    with database.connect() as connection:
        text, number = item_columns(
            connection, [("year", ("text",)), ("year", ("number",))], np.array([10])
        )
        assert text.values.tolist() == ["1999"]
        assert number.values.tolist() == [1999.0]
        assert item_columns(connection, [], np.array([10])) == []
        (empty,) = item_columns(connection, [("year", ("number",))], NOTHING)
        assert empty.values.shape == (0,)


def test_items_with_text_ids_and_dates_and_booleans(database: Database) -> None:
    with database.connect(autocommit=True) as connection:
        plant_films(connection)
        reading.read_sources(connection, FILM_QUERIES)  # gives the keys
        sources.set_sources(connection, FILM_QUERIES)
        keys = keys_of(connection, "item")
        ids = np.array([keys["m"], keys["brazil"]])
        genres, premiere, colour = item_columns(
            connection,
            [("genres", ("text",)), ("premiere", ("number", "date")), ("colour", ("boolean",))],
            ids,
        )
        connection.execute("UPDATE shop.films SET colour = NULL WHERE code = 'm'")
        (now,) = item_columns(connection, [("colour", ("boolean",))], ids)
    assert genres.values.tolist() == [None, "{satire,fantasy}"]
    assert premiere.kind == "date"
    days = (date(1985, 2, 20) - date(1970, 1, 1)).days
    assert premiere.values.tolist() == pytest.approx([np.nan, days], nan_ok=True)
    assert colour.values.tolist() == [0.0, 1.0]
    assert now.values.tolist() == pytest.approx([np.nan, 1.0], nan_ok=True)


def test_a_column_that_there_is_not_or_of_another_kind_is_one_line(database: Database) -> None:
    with database.connect() as connection:
        with pytest.raises(
            errors.InvalidArgument, match=r"no column colour; it returns item_id,.*--author-column"
        ):
            item_columns(connection, [("colour", ("text",))], NOTHING)
        with pytest.raises(
            errors.InvalidArgument, match="column title of the items query is text; name one that"
        ) as raised:
            item_columns(connection, [("title", ("number", "date"))], NOTHING)
        assert str(raised.value).endswith("that is a number or a date")
        with pytest.raises(errors.InvalidArgument, match=r"year .* is smallint; .* is a boolean"):
            item_columns(connection, [("year", ("boolean",))], NOTHING)


def test_the_reader_role_may_ask(database: Database) -> None:
    plant_books(database)
    with database.connect() as connection:
        connection.execute(f"SET ROLE {READER}".encode())
        connection.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
        (author,) = item_columns(connection, [("author", ("text",))], np.array([10]))
        assert author.values.tolist() == ["Ann"]
