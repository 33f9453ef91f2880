"""score and explain: what a list is ordered by, and what each of the user's books adds to it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from psycopg import errors as pg

from tests.integration.generations import plant, plant_ratings, random_ranker, random_vectors
from tests.integration.test_surfaces import BOOKS, STRANGER, by_sql, plant_shop
from tterec import Recommender, errors
from tterec.database.connection import Connection, Database

COLUMNS = ("rank", "book_id", "isbn", "title", "rating", "contribution")


def score(connection: Connection, user: int | str, isbn: str) -> float | None:
    (found,) = connection.execute("SELECT tterec.score(%s, %s)", (user, isbn)).fetchone() or ()
    return found  # type: ignore[no-any-return]


def explain(connection: Connection, user: int | str, isbn: str) -> list[dict[str, Any]]:
    rows = connection.execute(
        f"SELECT {', '.join(COLUMNS)} FROM tterec.explain(%s, %s)".encode(), (user, isbn)
    ).fetchall()
    return [dict(zip(COLUMNS, row, strict=True)) for row in rows]


def assert_explained(
    connection: Connection, recommender: Recommender, user: int, isbn: str
) -> list[dict[str, Any]]:
    """SQL and Python agree on the score and on each part, and the parts add up to it."""
    sql, python = explain(connection, user, isbn), recommender.explain(user, isbn)
    total, ours = score(connection, user, isbn), recommender.score(user, isbn)
    assert total is not None
    assert ours == pytest.approx(total, abs=1e-5)
    assert sum(one["contribution"] for one in sql) == pytest.approx(total, abs=1e-5)
    assert sum(one.contribution for one in python) == pytest.approx(ours, abs=1e-5)
    assert [one["rank"] for one in sql] == list(range(1, len(sql) + 1))
    amounts = [one["contribution"] for one in sql]
    assert amounts == sorted(amounts, reverse=True)
    theirs = {one.book_id: one for one in python}
    assert theirs.keys() == {one["book_id"] for one in sql}
    assert len(theirs) == len(python) == len(sql)
    for one in sql:
        other = theirs[one["book_id"]]
        assert (other.isbn, other.title, other.rating) == (one["isbn"], one["title"], one["rating"])
        assert other.contribution == pytest.approx(one["contribution"], abs=1e-5)
    assert [one["book_id"] for one in sql].count(None) == 1
    return sql


@pytest.mark.parametrize("ranker", [True, False])
@pytest.mark.parametrize("normalised", [True, False])
def test_a_score_is_that_of_the_list_and_the_sum_of_its_parts(
    database: Database, normalised: bool, ranker: bool
) -> None:
    plant_shop(database, normalised=normalised, users=24, ranker=ranker)
    with database.connect() as connection, Recommender(database) as recommender:
        seen = set()
        for user in range(1, 25):
            best = recommender.recommend(user, 3)
            seen.add(best[0].source)
            for one in by_sql(connection, "recommend(%s, 3)", user):
                if one["source"] == "popular":
                    assert score(connection, user, one["isbn"]) is None
                    assert explain(connection, user, one["isbn"]) == []
                    assert recommender.score(user, one["isbn"]) is None
                    assert recommender.explain(user, one["isbn"]) == []
                    continue
                assert score(connection, user, one["isbn"]) == one["score"]
                parts = assert_explained(connection, recommender, user, one["isbn"])
                if one["source"] == "profile":
                    assert len(parts) == 1
            for one in best:
                if one.source != "popular":
                    assert recommender.score(user, one.isbn) == one.score
        assert seen == {"history", "profile", "popular"}


def test_the_parts_are_the_books_that_count(database: Database) -> None:
    plant_shop(database, normalised=True, users=9, ranker=True)
    with database.connect() as connection, Recommender(database) as recommender:
        rows = connection.execute(
            "SELECT book_id, rating FROM tterec.ratings WHERE user_id = 8"
            " ORDER BY rated_at DESC LIMIT 200"
        ).fetchall()
        parts = assert_explained(connection, recommender, 8, "0000000777")
        assert {one["book_id"]: one["rating"] for one in parts} == {**dict(rows), None: None}
        assert len(rows) == 200


def test_rated_books_and_books_out_of_the_list_have_a_score_too(database: Database) -> None:
    plant_shop(database, normalised=True, users=9, ranker=True)
    with database.connect() as connection, Recommender(database) as recommender:
        (rated,) = connection.execute(
            "SELECT isbn FROM tterec.books JOIN tterec.ratings USING (book_id)"
            " WHERE user_id = 4 ORDER BY book_id LIMIT 1"
        ).fetchone() or ("",)
        everything = by_sql(connection, "recommend(4, %s, exclude_rated => false)", BOOKS)
        scores = {one["isbn"]: one["score"] for one in everything}
        for isbn in (rated, everything[-1]["isbn"], "0000000500"):
            assert score(connection, 4, isbn) == scores[isbn]
            assert_explained(connection, recommender, 4, isbn)


def test_where_there_is_no_vector_there_is_no_score(database: Database) -> None:
    with database.connect() as connection, Recommender(database) as recommender:
        connection.execute("INSERT INTO tterec.books (isbn) VALUES ('new')")
        connection.commit()
        assert score(connection, 4, "new") is None  # nothing is live
        assert recommender.explain(4, "new") == []
    plant_books_and_one_more(database)
    with database.connect() as connection, Recommender(database) as recommender:
        for user, isbn in ((1, "later"), (STRANGER, "0000000001"), ("nobody", "0000000001")):
            assert score(connection, user, isbn) is None
            assert explain(connection, user, isbn) == []
            assert recommender.score(user, isbn) is None
            assert recommender.explain(user, isbn) == []
        assert score(connection, "1", "0000000001") == score(connection, 1, "0000000001")
        assert explain(connection, "1", "0000000001") == explain(connection, 1, "0000000001")


def test_a_book_that_is_in_no_catalogue_is_an_error_everywhere(database: Database) -> None:
    """Before a generation is live as afterwards, for who is known and for who is not."""
    said = "there is no book with ISBN nope in the catalogue"
    for live in (False, True):
        if live:
            plant_books_and_one_more(database)
        with database.connect(autocommit=True) as connection, Recommender(database) as recommender:
            for user in (1, STRANGER, "1", "nobody"):
                for ask in (score, explain):
                    with pytest.raises(pg.NoDataFound, match=said) as raised:
                        ask(connection, user, "nope")
                    assert "tterec.catalogue" in str(raised.value.diag.message_hint)
                for ask in (recommender.score, recommender.explain):
                    with pytest.raises(errors.UnknownBook, match=said):
                        ask(user, "nope")
            with pytest.raises(pg.NoDataFound, match=said):
                by_sql(connection, "similar_books('nope')")
            with pytest.raises(errors.UnknownBook, match=said):
                recommender.similar("nope")


def plant_books_and_one_more(database: Database) -> None:
    """A live generation, and a book that came later."""
    with database.connect() as connection:
        connection.execute("DELETE FROM tterec.books")
        connection.execute(
            "INSERT INTO tterec.books (book_id, isbn, title)"
            " SELECT i, to_char(i, 'FM0000000000'), 'Book ' || i FROM generate_series(1, 50) i"
        )
        plant_ratings(connection, 1, [3, 4], [9.0, None])
        plant(connection, random_vectors(np.arange(1, 51), dim=8))
        connection.execute("INSERT INTO tterec.books (book_id, isbn) VALUES (51, 'later')")


def test_untidy_histories_are_explained_too(database: Database) -> None:
    """A book met twice, one without a vector, one that left the catalogue, ratings of zero."""
    plant_shop(database, normalised=True, users=3, ranker=True)
    with database.connect() as connection:
        plant_ratings(connection, 50, [5, 6, 7, 8], [0.0, 0.0, None, 7.5])
        connection.execute("INSERT INTO tterec.books (book_id, isbn) VALUES (9999, 'new')")
        plant_ratings(connection, 51, [9999, 11, 12], [9.0, 9.0, 3.0])
        connection.execute(
            "CREATE OR REPLACE VIEW tterec.interactions AS"
            " SELECT user_id, book_id AS item_id, rating, rated_at FROM tterec.ratings UNION ALL"
            " SELECT user_id, book_id, 1::real, rated_at - interval '1 day' FROM tterec.ratings"
            " WHERE book_id % 2 = 0"
        )
        connection.execute(
            "CREATE OR REPLACE VIEW tterec.catalogue AS SELECT book_id AS item_id, isbn, title"
            " FROM tterec.books WHERE book_id NOT IN (6, 12)"
        )
    with database.connect() as connection, Recommender(database) as recommender:
        for user in (50, 51):
            for isbn in ("0000000005", "0000000900", "0000001001"):
                parts = assert_explained(connection, recommender, user, isbn)
                gone = {one["book_id"] for one in parts if one["isbn"] is None}
                assert gone == ({6, None} if user == 50 else {12, None})


def test_more_speaks_than_a_sparse_vector_holds(database: Database) -> None:
    from dataclasses import replace

    plant_shop(database, normalised=True, users=1)
    rng, books = np.random.default_rng(2), np.arange(1, BOOKS + 1)
    ranker, width = random_ranker(books), BOOKS + 40_000
    with database.connect() as connection:
        plant_ratings(connection, 60, range(1, 31), rng.integers(1, 11, 30).tolist())
        sources = [np.sort(rng.choice(width, 40, replace=False)) for _ in books]
        ranker = replace(
            ranker,
            offsets=np.arange(0, 40 * BOOKS + 1, 40),
            sources=np.concatenate(sources),
            weights=rng.normal(0, 0.1, 40 * BOOKS).astype(np.float32),
            width=width,
            trait_offsets=np.arange(0, 1000 * BOOKS + 1, 1000),
            traits=np.concatenate(
                [np.sort(BOOKS + rng.choice(40_000, 1000, replace=False)) for _ in books]
            ),
        )
        plant(connection, random_vectors(books), ranker=ranker)
    with database.connect() as connection, Recommender(database) as recommender:
        for book in range(100, 120):
            assert_explained(connection, recommender, 60, f"{book:010}")
