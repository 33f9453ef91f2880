"""The second stage where shops are not tidy: the three surfaces still agree."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest

from tests.integration.generations import (
    plant,
    plant_books,
    plant_ratings,
    random_ranker,
    random_vectors,
)
from tests.integration.test_surfaces import assert_same, by_sql
from tterec import Recommender
from tterec.database.connection import Connection, Database

BOOKS = 1200


def plant_readers(connection: Connection, users: int) -> np.ndarray:
    """Books, and users with 20 ratings each; the books' ids."""
    books, rng = plant_books(connection, BOOKS), np.random.default_rng(1)
    for user in range(1, users + 1):
        read = rng.choice(books, 20, replace=False)
        plant_ratings(connection, user, read.tolist(), rng.integers(1, 11, 20).tolist())
    return books


def assert_agreement(database: Database, users: list[int], k: int = 10) -> None:
    """SQL, one user at a time in Python, and many at once."""
    with database.connect() as connection, Recommender(database) as recommender:
        many = dict(recommender.recommend_many(users, k))
        for user in users:
            python = [asdict(one) for one in recommender.recommend(user, k)]
            assert {one["source"] for one in python} == {"history"}
            assert_same(by_sql(connection, "recommend(%s, %s)", user, k), python)
            assert_same([asdict(one) for one in many[user]], python)


@pytest.mark.parametrize("left", [2, 5, 8])
def test_when_books_have_left_the_catalogue(database: Database, left: int) -> None:
    with database.connect() as connection:
        books = plant_readers(connection, 12)
        ranker = random_ranker(books, candidates=150)
        plant(connection, random_vectors(books), ranker=ranker, ef_search=400)
        connection.execute(
            "CREATE OR REPLACE VIEW tterec.catalogue AS SELECT book_id AS item_id, isbn, title"
            f" FROM tterec.books WHERE book_id % 10 < {left}".encode()
        )
    assert_agreement(database, list(range(1, 13)))


def test_when_an_interaction_comes_twice(database: Database) -> None:
    """Training refuses that; but a shop may sell the same book to the same user afterwards."""
    with database.connect() as connection:
        books = plant_readers(connection, 5)
        plant(connection, random_vectors(books), ranker=random_ranker(books))
        connection.execute(
            "CREATE OR REPLACE VIEW tterec.interactions AS"
            " SELECT user_id, book_id AS item_id, rating, rated_at FROM tterec.ratings UNION ALL"
            " SELECT user_id, book_id, 1::real, rated_at - interval '1 day' FROM tterec.ratings"
            " WHERE book_id % 2 = 0"
        )
    assert_agreement(database, [1, 2, 3, 4, 5], 50)


def test_when_more_speaks_than_a_sparse_vector_holds(database: Database) -> None:
    """Twenty books with a thousand traits each."""
    with database.connect() as connection:
        books = plant_readers(connection, 2)
        ranker, rng = random_ranker(books), np.random.default_rng(2)
        width = BOOKS + 60_000
        traits = [np.sort(BOOKS + rng.choice(60_000, 1000, replace=False)) for _ in books]
        sources = [np.sort(rng.choice(width, 40, replace=False)) for _ in books]
        ranker = replace(
            ranker,
            offsets=np.arange(0, 40 * BOOKS + 1, 40),
            sources=np.concatenate(sources),
            weights=rng.normal(0, 0.1, 40 * BOOKS).astype(np.float32),
            width=width,
            trait_offsets=np.arange(0, 1000 * BOOKS + 1, 1000),
            traits=np.concatenate(traits),
        )
        plant(connection, random_vectors(books), ranker=ranker)
    assert_agreement(database, [1, 2])


def test_a_rating_of_zero_does_not_speak(database: Database) -> None:
    with database.connect() as connection:
        books = plant_books(connection, BOOKS)
        plant_ratings(connection, 1, [5, 6, 7], [0.0, 0.0, 0.0])
        plant_ratings(connection, 2, [5, 6, 7], [0.0001, None, 0.0])
        plant(connection, random_vectors(books), ranker=random_ranker(books))
    assert_agreement(database, [1, 2])
    with Recommender(database) as recommender:
        for one in recommender.recommend(1, 5):
            assert one.similarity is not None
            assert one.score == pytest.approx(0.2 * one.similarity, abs=2e-6)
