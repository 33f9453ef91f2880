"""Which way a filtered list is found: by the index where many pass, by scoring all where few do."""

from __future__ import annotations

from collections.abc import Iterator
from math import sqrt

import numpy as np
import pytest

from tests.integration.generations import (
    plant,
    plant_books,
    plant_ratings,
    random_ranker,
    random_vectors,
)
from tests.integration.test_index_use import scans
from tests.integration.test_surfaces import by_sql
from tterec.database.connection import Connection, Database

BOOKS = 6000


@pytest.fixture(scope="module")
def shop(server: str, template: str) -> Iterator[Database]:
    """Book n is of the year n: a year filter passes as many as one likes."""
    from tests.conftest import _drop, create_database, url_of

    name = create_database(server, template)
    database = Database(url_of(server, name))
    with database.connect() as connection:
        books = plant_books(connection, BOOKS)
        connection.execute("UPDATE tterec.books SET year = book_id")
        plant_ratings(connection, 1, [7, 70, 700], [9.0, 8.0, None])
        plant(connection, random_vectors(books), ranker=random_ranker(books, candidates=60))
    with database.connect(autocommit=True) as connection:
        connection.execute("ANALYZE tterec.books")
    yield database
    _drop(server, name)


def few(connection: Connection, passing: int, wanted: int | None) -> bool:
    """Whether tterec.among() has so many scored, for a list of `wanted`."""
    row = connection.execute(
        "SELECT few FROM tterec.among(jsonb_build_object('max_year', %s::int), %s)",
        (passing, wanted),
    ).fetchone()
    assert row is not None
    return bool(row[0])


@pytest.mark.parametrize("wanted", [1, 15, 60, 205, None])
def test_the_cheaper_way_by_the_number_that_passes(shop: Database, wanted: int | None) -> None:
    """Both cost the same where passing = 6 * wanted * books / passing."""
    equal = int(sqrt(6 * (wanted or 60) * BOOKS))
    with shop.connect() as connection:
        assert few(connection, equal - 1, wanted)
        assert not few(connection, equal + 2, wanted)
        assert not few(connection, BOOKS, wanted)


def test_many_that_the_planner_takes_for_few_are_counted(shop: Database) -> None:
    with shop.connect() as connection:
        connection.execute("DELETE FROM pg_statistic WHERE starelid = 'tterec.books'::regclass")
        assert few(connection, 100, 15)
        assert not few(connection, BOOKS - 1, 15)
        connection.rollback()


@pytest.mark.parametrize("call", ["similar_books('0000000004', 10", "recommend(1, 10"])
def test_the_way_is_taken(shop: Database, call: str) -> None:
    with shop.connect() as connection:
        assert len(by_sql(connection, f"{call}, max_year => 500)")) == 10
        assert scans(connection)[0] == 0
        assert len(by_sql(connection, f"{call}, max_year => {BOOKS - 1})")) == 10
        assert scans(connection)[0] == 1


def test_both_ways_find_the_same(shop: Database) -> None:
    with shop.connect() as connection:
        connection.execute("UPDATE tterec.models SET ef_search = 1000")
        for passing in (300, 500, 700, 3000):
            found = []
            for wanted in (0, 10**6):
                connection.execute(
                    "CREATE OR REPLACE FUNCTION tterec.few(wanted bigint, catalogue float8)"
                    f" RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT {wanted}'".encode()
                )
                found.append(by_sql(connection, f"recommend(1, 10, max_year => {passing})"))
            assert found[0] == found[1]
            assert len(found[0]) == 10
        connection.rollback()


def test_a_wide_catalogue_wants_more_scored(shop: Database) -> None:
    with shop.connect() as connection:
        row = connection.execute("SELECT tterec.few(15, 1e6), tterec.few(205, 1e6)").fetchone()
    assert row == (int(np.rint(sqrt(6 * 15 * 1e6))), int(np.rint(sqrt(6 * 205 * 1e6))))
