"""The second stage where shops are not tidy: the three surfaces still agree."""

from __future__ import annotations

import math
from dataclasses import asdict, replace

import numpy as np
import pytest
from click.testing import CliRunner

from tests.integration.generations import (
    plant,
    plant_books,
    plant_ratings,
    random_ranker,
    random_vectors,
)
from tests.integration.test_index_use import scans
from tests.integration.test_surfaces import assert_same, by_sql
from tterec import Recommender
from tterec.cli import main
from tterec.database import ivf
from tterec.database.connection import Connection, Database
from tterec.records import LEADERS, TraitValue
from tterec.store import item_updates
from tterec.store.state_tables import Traits

BOOKS = 1200


def plant_readers(connection: Connection, users: int, ratings: int = 20) -> np.ndarray:
    """Books, and users with so many ratings each; the books' ids."""
    books, rng = plant_books(connection, BOOKS), np.random.default_rng(1)
    for user in range(1, users + 1):
        read = rng.choice(books, ratings, replace=False)
        plant_ratings(connection, user, read.tolist(), rng.integers(1, 11, ratings).tolist())
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


@pytest.mark.parametrize("twice", [False, True])
def test_when_users_have_met_more_than_may_name_candidates(database: Database, twice: bool) -> None:
    with database.connect() as connection:
        books = plant_readers(connection, 6, 3 * LEADERS)
        ranker = replace(random_ranker(books, candidates=20), similarity_weight=0.1)
        plant(connection, random_vectors(books), ranker=ranker)
        if twice:
            connection.execute(
                "CREATE OR REPLACE VIEW tterec.interactions AS"
                " SELECT user_id, book_id AS item_id, rating, rated_at FROM tterec.ratings"
                " UNION ALL SELECT user_id, book_id, 9::real, rated_at FROM tterec.ratings"
                " WHERE book_id % 2 = 0"
            )
        met = connection.execute("SELECT items FROM tterec.history_of(1::bigint)").fetchone()
        assert met is not None
        led = connection.execute("SELECT tterec.leads_1(%s::bigint[], '{}', '{}')", met).fetchone()
    place = {book: row for row, book in enumerate(ranker.item_ids.tolist())}
    telling = list(dict.fromkeys(met[0]))[:LEADERS]
    wanted = {one for item in telling for one in ranker.leads[place[item]].tolist() if one > 0}
    assert led is not None
    assert set(led[0]) == wanted
    assert_agreement(database, list(range(1, 7)), 50)


@pytest.mark.parametrize("probes", [None, 48, 1])
@pytest.mark.parametrize("ranked", [True, False])
def test_when_users_have_met_all_that_is_near_by(
    database: Database, monkeypatch: pytest.MonkeyPatch, ranked: bool, probes: int | None
) -> None:
    """The second index finds what is beyond, in as many of its lists as it takes; where there is
    none, a scan of the few items does."""
    if probes is not None:
        monkeypatch.setattr(ivf, "LEAST_ROWS", BOOKS)
        monkeypatch.setattr(ivf, "probes", lambda _rows, _dim: probes)
    with database.connect() as connection:
        books, users = plant_books(connection, BOOKS), [1, 2, 3]
        vectors = random_vectors(books)
        vectors = replace(vectors, history_vectors=vectors.item_embeddings)
        for user in users:
            near = np.argsort(-vectors.item_embeddings @ vectors.item_embeddings[7 * user])
            plant_ratings(connection, user, books[near[899::-1]].tolist(), [9] * 900)
        plant(connection, vectors, ranker=random_ranker(books) if ranked else None)
    with database.connect() as connection, Recommender(database) as recommender:
        for user in users:
            before = scans(connection)
            found = by_sql(connection, "recommend(%s)", user)
            after = scans(connection)
            made = [new - old for old, new in zip(before, after, strict=True)]
            assert made == ([0, 1, 0] if probes is not None else [0, 0, 1])
            assert len(found) == 10
            assert_same(found, [asdict(one) for one in recommender.recommend(user)])
    if probes != 1:
        assert_agreement(database, users)


def test_a_led_book_without_a_vector_does_not_stand_for_one_of_the_list(database: Database) -> None:
    """It is in the catalogue again and not embedded yet: the scan has to find another one."""
    with database.connect() as connection:
        books = plant_books(connection, BOOKS)
        vectors = random_vectors(books)
        vectors = replace(vectors, history_vectors=vectors.item_embeddings)
        near = books[np.argsort(-vectors.item_embeddings @ vectors.item_embeddings[7])]
        plant_ratings(connection, 1, near[899::-1].tolist(), [9] * 900)
        ranker = random_ranker(books)
        led = np.full_like(ranker.leads, -1)
        led[:, :5] = near[-5:]
        plant(connection, vectors, ranker=replace(ranker, leads=led))
        for kind in ("item_vectors", "history_vectors", "item_evidence"):
            connection.execute(
                f"DELETE FROM tterec.{kind}_1 WHERE item_id = %s".encode(), [int(near[-1])]
            )
    with database.connect() as connection, Recommender(database) as recommender:
        for k in range(3, 9):
            found = by_sql(connection, "recommend(1, %s)", k)
            assert len(found) == k
            assert_same(found, [asdict(one) for one in recommender.recommend(1, k)])


@pytest.mark.parametrize("digits", [-15, 0, 3])
def test_how_many_digits_the_caller_prints_makes_no_difference(
    database: Database, digits: int
) -> None:
    with database.connect() as connection:
        books = plant_readers(connection, 3)
        plant(connection, random_vectors(books), ranker=random_ranker(books))
        calls = "recommend(1, 50)", "recommend_for_books(ARRAY['0000000004', '0000000011'])"
        before = [exactly(connection, call) for call in calls]
        connection.execute(f"SET extra_float_digits = {digits}".encode())
        assert [exactly(connection, call) for call in calls] == before


def exactly(connection: Connection, call: str) -> list[tuple[object, ...]]:
    """Ids and scores, as they are: in binary no setting rounds them."""
    statement = f"SELECT book_id, score FROM tterec.{call}"
    return connection.execute(statement.encode(), binary=True).fetchall()


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


@pytest.mark.parametrize("ranked", [False, True])
def test_when_the_items_query_returns_an_item_twice(database: Database, ranked: bool) -> None:
    """Training refuses that, too; a book of a list has the ISBN and title that are its own."""
    with database.connect() as connection:
        books = plant_readers(connection, 3)
        plant(connection, random_vectors(books), ranker=random_ranker(books) if ranked else None)
        connection.execute(
            "CREATE OR REPLACE VIEW tterec.catalogue AS"
            " SELECT book_id AS item_id, isbn, title FROM tterec.books UNION ALL"
            " SELECT book_id, isbn, title FROM tterec.books WHERE book_id = 1"
        )
    with Recommender(database) as recommender:
        for _, lines in recommender.recommend_many([1, 2, 3], 20):
            assert [(int(one.isbn), one.title) for one in lines] == [
                (one.book_id, f"Book {one.book_id}") for one in lines
            ]
            assert len({one.book_id for one in lines}) == 20


def test_when_books_have_neither_isbn_nor_title(database: Database) -> None:
    """As films have none in a shop whose items query has a column `isbn`."""
    with database.connect() as connection:
        books = plant_readers(connection, 3)
        plant(connection, random_vectors(books), ranker=random_ranker(books))
        connection.execute(
            "CREATE OR REPLACE VIEW tterec.catalogue AS SELECT book_id AS item_id,"
            " CASE book_id WHEN 4 THEN isbn END AS isbn, NULL::text AS title FROM tterec.books"
        )
    assert_agreement(database, [1, 2, 3])
    for command in (["recommend", "1"], ["similar", "0000000004"], ["explain", "1", "0000000004"]):
        done = CliRunner().invoke(main, ["--database-url", database.url, *command])
        assert done.exit_code == 0, done.exception
        assert "(no title)" in done.stdout
    done = CliRunner().invoke(main, ["--database-url", database.url, "recommend", "--all"])
    assert done.stdout.splitlines()[1].startswith("1,,1,")


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


def plant_latecomers(database: Database, *, deleted: bool = False) -> list[int]:
    """A generation that was trained without every twentieth book, and these books, new to it, with
    shared values from the first on; book -3 has all of these. Users have read two of them."""
    with database.connect() as connection:
        books = plant_readers(connection, 12)
        connection.execute("DELETE FROM tterec.ratings WHERE book_id % 20 = 0")
        connection.execute("INSERT INTO tterec.books (book_id, isbn) VALUES (-3, 'all values')")
        late, books = [-3, *books[19::20].tolist()], books[books % 20 != 0]
        ranker = random_ranker(books)
        values = [
            TraitValue("author", f"author {n}", 0.25) for n in range(ranker.width - len(books))
        ]
        ranker = replace(ranker, trait_values=tuple(values))
        generation = plant(connection, random_vectors(books), ranker=ranker)
        if deleted:
            gone = [book for book in books.tolist() if book % 7 == 0]
            connection.execute("DELETE FROM tterec.books WHERE book_id = ANY (%s)", (gone,))
            item_updates.delete(connection, generation, gone, ranked=True)
        shared = {
            book: [(value.name, value.text), ("author", "nobody else"), ("shelf", value.text)]
            for book, value in zip(late, values, strict=False)
        }
        shared[-3] += [(value.name, value.text) for value in values[: len(late)]]
        found = random_vectors(np.array(late), seed=9)
        item_updates.write_evidence(
            connection, generation, ranker.width, Traits(connection, generation), shared
        )
        for kind, matrix in (
            ("item_vectors", found.item_embeddings),
            ("history_vectors", found.history_vectors),
        ):
            written = item_updates.write_vectors(
                connection, kind, generation, found.item_ids, matrix
            )
            assert written == len(late)
        for user in range(1, 13):
            plant_ratings(connection, user, [late[user], late[-user]], [9.0, None])
    return late


@pytest.mark.parametrize("deleted", [False, True])
def test_when_books_came_and_went_after_the_training(database: Database, deleted: bool) -> None:
    plant_latecomers(database, deleted=deleted)
    assert_agreement(database, list(range(1, 13)), 40)


def test_an_author_speaks_for_a_new_book(database: Database) -> None:
    """And a new book for its author's others: by the log of 1 plus the votes, times the weight."""
    late = plant_latecomers(database)
    with Recommender(database) as recommender:
        lines = {line.book_id: line for line in recommender.recommend(1, BOOKS)}
        few = recommender.recommend_for_books(["0000000020"], [9], BOOKS)
        alone = {line.book_id: line for line in few}
    with database.connect() as connection:
        rows = dict(
            connection.execute(
                "SELECT item_id, traits FROM tterec.item_evidence_1"
                " WHERE item_id IN (SELECT book_id FROM tterec.ratings WHERE user_id = 1)"
            ).fetchall()
        )
        ratings = dict(
            connection.execute(
                "SELECT book_id, coalesce(rating / 10, 0.7) FROM tterec.ratings WHERE user_id = 1"
            ).fetchall()
        )
        (mine,) = connection.execute(
            "SELECT traits FROM tterec.item_evidence_1 WHERE item_id = -3"
        ).fetchone() or ([],)
        (places,) = connection.execute(
            "SELECT array_agg(place) FROM tterec.item_evidence_1 WHERE item_id = ANY (%s)", (late,)
        ).fetchone() or ([],)
    assert set(places) == {None}
    votes = [sum(ratings[item] for item in rows if trait in rows[item]) for trait in mine]
    assert sum(vote > 0 for vote in votes) > 1
    line = lines[-3]
    assert line.similarity is not None
    spoken = 0.25 * sum(math.log1p(vote) for vote in votes)
    assert line.score == pytest.approx(0.2 * line.similarity + spoken, abs=1e-5)
    # Book 20 has the second of the values, of which -3 has all.
    best = alone[-3]
    assert best.similarity is not None
    assert best.score == pytest.approx(0.2 * best.similarity + 0.25 * math.log1p(0.9), abs=1e-5)


def test_a_changed_book_keeps_what_others_say_for_it(database: Database) -> None:
    with database.connect() as connection:
        books = plant_readers(connection, 3)
        ranker = random_ranker(books)
        values = [TraitValue("author", f"a {n}", 0.25) for n in range(ranker.width - BOOKS)]
        generation = plant(
            connection, random_vectors(books), ranker=replace(ranker, trait_values=tuple(values))
        )
        before = weights_of(connection, 5)
        item_updates.write_evidence(
            connection,
            generation,
            ranker.width,
            Traits(connection, generation),
            {5: [("author", "a 0"), ("author", "a 299")]},
        )
        after = weights_of(connection, 5)
        place = connection.execute(
            "SELECT place, traits FROM tterec.item_evidence_1 WHERE item_id = 5"
        ).fetchone()
    assert {at: w for at, w in after.items() if at <= BOOKS} == {
        at: w for at, w in before.items() if at <= BOOKS
    }
    assert {at: w for at, w in after.items() if at > BOOKS} == {1201: 0.25, 1500: 0.25}
    assert place == (5, [1201, 1500])
    assert_agreement(database, [1, 2, 3])


def weights_of(connection: Connection, item: int) -> dict[int, float]:
    """An item's weights by place."""
    row = connection.execute(
        "SELECT weights::text FROM tterec.item_evidence_1 WHERE item_id = %s", (item,)
    ).fetchone()
    assert row is not None
    entries = row[0].split("}")[0].strip("{").split(",")
    return {int(at): float(weight) for at, weight in (entry.split(":") for entry in entries)}
