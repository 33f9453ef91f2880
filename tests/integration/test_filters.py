"""Filters: SQL, Python and lists of many hold the same books, all that pass if k ask for them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import psycopg
import pytest

from tests.integration.generations import (
    plant,
    plant_books,
    plant_ratings,
    random_ranker,
    random_vectors,
)
from tests.integration.test_sources import FILM_QUERIES, plant_films
from tests.integration.test_surfaces import STRANGER, assert_same, by_sql
from tterec import Filters, Recommender, Rules, errors, pipeline
from tterec.database.connection import Connection, Database
from tterec.store import reading, sources

BOOKS = 6000
USERS = (1, 2, 3, 4, STRANGER)
"""With a history; with a long one; with one book; by profile alone; unknown."""


ODD = "100%s '\\ $1 @generation@ {} %%"
"""The author of book 21."""


def author_of(book: int) -> str | None:
    """As planted: a hundred authors with 60 books each, but for every 20th book."""
    if book == 21:
        return ODD
    return None if book % 20 == 0 else f"Ann O'{book % 100}"


def year_of(book: int) -> int | None:
    """As planted: the years 1900 to 2019, but for every 7th book."""
    return None if book % 7 == 0 else 1900 + book // 50


def plant_filtered_shop(database: Database, *, ranker: bool) -> None:
    """Books whose authors are spelled in three ways, and a live generation."""
    rng = np.random.default_rng(1)
    with database.connect() as connection:
        books = plant_books(connection, BOOKS)
        connection.execute(
            "UPDATE tterec.books SET publisher = 'House ' || book_id % 2,"
            " year = CASE WHEN book_id % 7 <> 0 THEN 1900 + book_id / 50 END,"
            " author = CASE WHEN book_id % 20 <> 0 THEN (ARRAY["
            "   'Ann O''', ' ann o''', 'ANN O'''])[1 + book_id % 3] || book_id % 100 || '  ' END"
        )
        connection.execute("UPDATE tterec.books SET author = %s WHERE book_id = 21", (ODD,))
        for user, length in ((1, 20), (2, 300), (3, 1)):
            read = rng.choice(books, length, replace=False).tolist()
            plant_ratings(connection, user, read, rng.integers(0, 11, length).tolist())
        connection.execute("INSERT INTO tterec.users (user_id) VALUES (4)")
        for user in range(10, 30):  # books 1 to 19 are met 1 to 19 times
            plant_ratings(connection, user, range(user - 9, 20), [None] * (29 - user))
        vectors = random_vectors(books, [2, 4], dim=16)
        plant(
            connection,
            vectors,
            ranker=random_ranker(books, candidates=60) if ranker else None,
            ef_search=1000,
        )
    with database.connect(autocommit=True) as connection:
        connection.execute("ANALYZE")


CASES: list[tuple[dict[str, Any], Any]] = [
    ({"author": "ANN o'33 "}, lambda book: author_of(book) == "Ann O'33"),
    ({"publisher": "house 1"}, lambda book: book % 2 == 1),
    ({"min_year": 1960}, lambda book: (year_of(book) or 0) >= 1960),
    ({"max_year": 1901}, lambda book: (year_of(book) or 9999) <= 1901),
    (
        {"min_year": 2000, "max_year": 2000, "publisher": "House 0"},
        lambda book: year_of(book) == 2000 and book % 2 == 0,
    ),
    ({"min_ratings": 12}, lambda book: 12 <= book <= 19),
    ({"only_isbns": ["0000000007", "0000000100", "nope"]}, lambda book: book in (7, 100)),
    ({"only_isbns": []}, lambda _: False),
    (
        {"without_isbns": [f"{book:010}" for book in range(1, 5991)]},
        lambda book: book > 5990,
    ),
    ({"without_isbns": []}, lambda _: True),
    ({"author": "100% \\ $1 @among@ {}"}, lambda _: False),
    ({"author": ODD}, lambda book: book == 21),
    ({"only_isbns": ["x' OR true --"]}, lambda _: False),
]


def matching(passes: Any) -> set[int]:
    """The books that pass."""
    return {book for book in range(1, BOOKS + 1) if passes(book)}


def as_sql(filters: dict[str, Any]) -> tuple[str, list[Any]]:
    """Named arguments of a function, and their values."""
    return "".join(f", {name} => %s" for name in filters), list(filters.values())


def seen_by(connection: Connection, user: int) -> set[int]:
    rows = connection.execute("SELECT book_id FROM tterec.ratings WHERE user_id = %s", (user,))
    return {row[0] for row in rows}


@pytest.fixture(scope="module", params=[True, False], ids=["ranker", "similarity"])
def shop(server: str, template: str, request: pytest.FixtureRequest) -> Iterator[Database]:
    from tests.conftest import _drop, create_database, url_of

    name = create_database(server, template)
    database = Database(url_of(server, name))
    plant_filtered_shop(database, ranker=request.param)
    yield database
    _drop(server, name)


def _name(value: object) -> str:
    return "" if callable(value) else str(value)[:40]


@pytest.mark.parametrize(("given", "passes"), CASES, ids=_name)
def test_the_surfaces_agree_and_hold_what_passes(
    shop: Database, given: dict[str, Any], passes: Any
) -> None:
    filters, (named, values) = Filters(**given), as_sql(given)
    allowed = matching(passes)
    with shop.connect() as connection, Recommender(shop) as recommender:
        many = dict(recommender.recommend_many(USERS, 10, filters=filters))
        for user in USERS:
            sql = by_sql(connection, f"recommend(%s, 10{named})", user, *values)
            python = [asdict(one) for one in recommender.recommend(user, filters=filters)]
            left = allowed - seen_by(connection, user)
            assert {one["book_id"] for one in python} <= left
            assert len(python) == min(10, len(left))
            assert_same(sql, python)
            assert_same([asdict(one) for one in many[user]], python)


@pytest.mark.parametrize(("given", "passes"), CASES, ids=_name)
def test_k_beyond_what_passes_is_all_that_passes(
    shop: Database, given: dict[str, Any], passes: Any
) -> None:
    named, values = as_sql(given)
    allowed = matching(passes)
    with shop.connect() as connection, Recommender(shop) as recommender:
        for user in USERS:
            left = allowed - seen_by(connection, user)
            found = by_sql(connection, f"recommend(%s, {BOOKS}{named})", user, *values)
            assert {one["book_id"] for one in found} == left
            python = recommender.recommend(user, BOOKS, filters=Filters(**given))
            assert {one.book_id for one in python} == left


@pytest.mark.parametrize(("given", "passes"), CASES, ids=_name)
def test_the_other_lists_take_the_same_filters(
    shop: Database, given: dict[str, Any], passes: Any
) -> None:
    filters, (named, values) = Filters(**given), as_sql(given)
    isbn, allowed = "0000000033", matching(passes)
    with shop.connect() as connection, Recommender(shop) as recommender:
        for sql, python, excluded in (
            (
                by_sql(connection, f"recommend_for_books(%s, NULL, 8{named})", [isbn], *values),
                recommender.recommend_for_books([isbn], None, 8, filters=filters),
                {33},
            ),
            (
                by_sql(connection, f"similar_books(%s, 8{named})", isbn, *values),
                recommender.similar(isbn, 8, filters=filters),
                {33},
            ),
            (
                by_sql(connection, f"popular_books(8{named})", *values),
                recommender.popular(8, filters=filters),
                set(),
            ),
        ):
            assert_same(sql, [asdict(one) for one in python])
            assert {one["book_id"] for one in sql} <= allowed - excluded
            assert len(sql) == min(8, len(allowed - excluded))


def test_a_scan_takes_over_where_the_index_finds_too_few(shop: Database) -> None:
    """Half of the books pass; the user has met all of these but twelve."""
    with shop.connect() as connection:
        connection.execute("SET hnsw.max_scan_tuples = 1")
        connection.execute("UPDATE tterec.models SET ef_search = 10")
        left = by_sql(connection, "recommend(3, 12, publisher => 'house 0')")
        connection.execute(
            "INSERT INTO tterec.ratings (user_id, book_id, rated_at)"
            " SELECT 3, book_id, '2001-01-01' FROM tterec.books"
            " WHERE book_id %% 2 = 0 AND book_id <> ALL (%s)"
            " ON CONFLICT DO NOTHING",
            ([one["book_id"] for one in left],),
        )
        found = by_sql(connection, "recommend(3, publisher => 'house 0')")
        assert len(found) == 10
        assert {one["book_id"] for one in found} <= {one["book_id"] for one in left}
        connection.rollback()


def test_rules_see_what_passes_the_filters(shop: Database) -> None:
    rules, filters = Rules(max_per_author=1), Filters(publisher="House 1", min_year=1950)
    with Recommender(shop) as recommender:
        found = recommender.recommend(1, rules=rules, filters=filters)
        ((_, many),) = recommender.recommend_many([1], rules=rules, filters=filters)
    assert [one.book_id for one in found] == [one.book_id for one in many]
    assert len(found) == 10
    assert all(one.book_id % 2 == 1 and (year_of(one.book_id) or 0) >= 1950 for one in found)
    authors = [author_of(one.book_id) for one in found if author_of(one.book_id)]
    assert len(set(authors)) == len(authors)


def test_what_cannot_be_filtered_by_is_an_error(shop: Database) -> None:
    with shop.connect() as connection, Recommender(shop) as recommender:
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="min_ratings = -1"):
            by_sql(connection, "recommend(1, min_ratings => -1)")
        connection.rollback()
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="'psychic' is unknown"):
            by_sql(connection, "recommend(1, strategy => 'psychic')")
        connection.rollback()
        for wrong in ({"min_ratings": -1}, {"only_isbns": "0000000001"}, {"min_year": 10**10}):
            with pytest.raises(errors.InvalidArgument):
                recommender.recommend(1, filters=Filters(**wrong))  # type: ignore[arg-type]
        assert recommender.recommend(1, filters=Filters()) == recommender.recommend(1)


def test_the_arguments_of_old_callers_still_mean_the_same(shop: Database) -> None:
    with shop.connect() as connection:
        five = by_sql(connection, "recommend(1, 5)")
        assert len(five) == 5
        assert by_sql(connection, "recommend('1', 5)") == five
        assert by_sql(connection, "recommend(1::bigint, 5, true)") == five
        assert by_sql(connection, "recommend('1'::text, 5, exclude_rated => true)") == five
        assert len(by_sql(connection, "recommend(1, 5, false)")) == 5
        isbns = ["0000000033"]
        assert len(by_sql(connection, "recommend_for_books(%s, ARRAY[9]::real[], 4)", isbns)) == 4


def test_before_any_training_interactions_are_counted_now(database: Database) -> None:
    with database.connect() as connection:
        plant_books(connection, 5)
        for user in range(1, 4):
            plant_ratings(connection, user, [2, 3, 4][:user], [9.0] * user)
    with database.connect() as connection, Recommender(database) as recommender:
        found = by_sql(connection, "recommend(999, min_ratings => 2)")
        assert {one["book_id"] for one in found} == {2, 3}
        python = recommender.recommend(999, filters=Filters(min_ratings=2))
        assert_same(found, [asdict(one) for one in python])


def film_shop(connection: Connection, items: str) -> None:
    """A shop with text ids, whose items query is this, and a live generation."""
    plant_films(connection)
    queries = sources.Queries(FILM_QUERIES.interactions, FILM_QUERIES.users, items)
    reading.read_sources(connection, queries)  # gives the keys
    sources.set_sources(connection, queries)
    ids = np.array([row[0] for row in connection.execute("SELECT item_id FROM tterec.item_keys")])
    plant(connection, random_vectors(np.sort(ids), dim=8))


def test_a_shop_of_its_own_filters_by_arrays_dates_and_text_ids(database: Database) -> None:
    with database.connect(autocommit=True) as connection:
        film_shop(
            connection,
            "SELECT code AS item_id, title, genres AS author, premiere AS year FROM shop.films",
        )
    with database.connect() as connection, Recommender(database) as recommender:
        for filters, wanted in (
            ({"author": " Fantasy"}, ["brazil"]),
            ({"min_year": 1980}, ["brazil"]),
            ({"max_year": 1979}, ["alien"]),
            ({"only_isbns": ["m", "alien"]}, ["alien", "m"]),
            ({"without_isbns": ["m", "alien"]}, ["brazil"]),
        ):
            named, values = as_sql(filters)
            sql = by_sql(connection, f"recommend('bob', 5{named})", *values)
            python = recommender.recommend("bob", 5, filters=Filters(**filters))  # type: ignore[arg-type]
            assert sorted(one["isbn"] for one in sql) == wanted
            assert sorted(one.isbn for one in python) == wanted
            assert_same(sql, [asdict(one) for one in python])


def test_a_column_that_the_items_query_lacks_is_named(database: Database) -> None:
    with database.connect(autocommit=True) as connection:
        film_shop(connection, "SELECT code AS item_id, title, title AS year FROM shop.films")
    said = "the items query returns no column author, by which author filters; it returns"
    with database.connect() as connection, Recommender(database) as recommender:
        with pytest.raises(psycopg.errors.UndefinedColumn, match=f"{said} item_id, title, year"):
            by_sql(connection, "recommend('ann', author => 'x')")
        connection.rollback()
        with pytest.raises(psycopg.errors.DatatypeMismatch, match=r"year .* is character varying"):
            by_sql(connection, "popular_books(min_year => 3)")
        with pytest.raises(errors.InvalidArgument, match=said):
            recommender.recommend("ann", filters=Filters(author="x"))
        with pytest.raises(errors.InvalidArgument, match="make it a number or a date"):
            list(recommender.recommend_many(filters=Filters(min_year=3)))


def test_functions_of_an_earlier_version_are_replaced_or_named(database: Database) -> None:
    """An upgrade from fewer arguments; a view on the old function stands in its way."""
    with database.connect() as connection:
        connection.execute(
            """
            DROP FUNCTION tterec.recommend(
                bigint, int, boolean, text[], text[], text, text, int, int, int, text);
            CREATE FUNCTION tterec.recommend(
                user_id bigint, k int DEFAULT 10, exclude_rated boolean DEFAULT true)
            RETURNS TABLE (rank int, isbn text) LANGUAGE sql AS 'SELECT 1, ''x''';
            CREATE VIEW public.mine AS SELECT * FROM tterec.recommend(1, 5);
            """
        )
    with pytest.raises(errors.DatabaseError, match=r"view mine depends .*; drop what is built"):
        pipeline.upgrade(database)
    with database.connect() as connection:
        connection.execute("DROP VIEW public.mine")
    pipeline.upgrade(database)
    with database.connect() as connection:
        assert by_sql(connection, "recommend(36, 5)") == []
        connection.execute("CREATE VIEW public.mine AS SELECT * FROM tterec.recommend(1, 5)")
    pipeline.upgrade(database)  # the same arguments: nothing stands in the way
