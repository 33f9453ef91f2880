"""SQL, Python and the command line recommend the same; SQL and Python each compute it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
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
from tterec import Recommender, errors
from tterec.database.connection import Connection, Database
from tterec.database.roles import READER

BOOKS = 1500
HISTORIES = (0, 1, 2, 5, 20, 60, 200, 201, 500)
USERS = 104
STRANGER = 10**9
COLUMNS = "rank, book_id, isbn, title, score, similarity, source"


def plant_shop(
    database: Database, *, normalised: bool, users: int = USERS, ranker: bool = False
) -> None:
    """Books, users whose histories have all lengths of HISTORIES, and a live generation."""
    rng = np.random.default_rng(3)
    with database.connect() as connection:
        books = plant_books(connection, BOOKS)
        for user in range(1, users + 1):
            length = HISTORIES[user % len(HISTORIES)]
            read = rng.choice(books, length, replace=False)
            ratings = [None if r > 10 else float(r) for r in rng.integers(0, 13, length)]
            plant_ratings(connection, user, read.tolist(), ratings)
        vectors = random_vectors(
            books, range(1, users + 1, 2), dim=32, normalised=normalised, scale=2.0
        )
        second_stage = random_ranker(books) if ranker else None
        plant(connection, vectors, ranker=second_stage, ef_search=400)


def by_sql(connection: Connection, call: str, *arguments: object) -> list[dict[str, Any]]:
    cursor = connection.execute(f"SELECT {COLUMNS} FROM tterec.{call}".encode(), arguments)
    return [dict(zip(COLUMNS.split(", "), row, strict=True)) for row in cursor]


def assert_same(ours: Sequence[dict[str, Any]], theirs: Sequence[dict[str, Any]]) -> None:
    """The same books and scores within 1e-5; in the same order but for scores that close."""
    assert len(ours) == len(theirs)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine["rank"] == other["rank"]
        assert mine["source"] == other["source"]
        assert mine["score"] == pytest.approx(other["score"], abs=1e-5)
        if mine["book_id"] == other["book_id"]:
            if mine["similarity"] is None:
                assert other["similarity"] is None
            else:
                assert mine["similarity"] == pytest.approx(other["similarity"], abs=1e-5)
            assert (mine["isbn"], mine["title"]) == (other["isbn"], other["title"])
            continue
        twin = [one["score"] for one in theirs if one["book_id"] == mine["book_id"]]
        last = theirs[-1]["score"]
        assert (twin or [last])[0] == pytest.approx(mine["score"], abs=1e-5)


@pytest.mark.parametrize("ranker", [True, False])
@pytest.mark.parametrize("normalised", [True, False])
def test_the_surfaces_agree_for_a_hundred_users(
    database: Database, normalised: bool, ranker: bool
) -> None:
    plant_shop(database, normalised=normalised, ranker=ranker)
    everyone = [*range(1, USERS + 1), STRANGER]
    with database.connect() as connection, Recommender(database) as recommender:
        many = dict(recommender.recommend_many(everyone, 10))
        sources = set()
        for user in everyone:
            python = [asdict(one) for one in recommender.recommend(user)]
            assert_same(by_sql(connection, "recommend(%s)", user), python)
            assert_same([asdict(one) for one in many[user]], python)
            sources |= {one["source"] for one in python}
        assert sources == {"history", "profile", "popular"}
        for user in (5, 9, STRANGER):
            command = [sys.executable, "-m", "tterec", "--database-url", database.url]
            command += ["recommend", str(user), "--format", "json"]
            said = subprocess.run(command, check=True, capture_output=True)
            assert_same(json.loads(said.stdout), by_sql(connection, "recommend(%s)", user))


@pytest.mark.parametrize("ranker", [True, False])
def test_lists_for_books_and_like_a_book_agree(database: Database, ranker: bool) -> None:
    plant_shop(database, normalised=True, users=20, ranker=ranker)
    isbns = ["0000000004", "0000000009", "0000000700", "no such book", "0000000009"]
    ratings = [8.0, None, 2.0, 9.0, 10.0]
    with database.connect() as connection, Recommender(database) as recommender:
        sql = by_sql(connection, "recommend_for_books(%s, %s::real[], 7)", isbns, ratings)
        python = [asdict(one) for one in recommender.recommend_for_books(isbns, ratings, 7)]
        assert_same(sql, python)
        assert {one["source"] for one in sql} == {"history"}
        assert not {one["isbn"] for one in sql} & set(isbns)
        for isbn in ("0000000001", "0000001500"):
            near = [asdict(one) for one in recommender.similar(isbn, 12)]
            assert_same(by_sql(connection, "similar_books(%s, 12)", isbn), near)
            assert isbn not in {one["isbn"] for one in near}
        popular = [asdict(one) for one in recommender.popular(15)]
        assert_same(by_sql(connection, "popular_books(15)"), popular)


def test_the_second_stage_scores_are_evidence_and_similarity(database: Database) -> None:
    with database.connect() as connection:
        books = plant_books(connection, 500)
        plant_ratings(connection, 1, [20, 10, 30], [9.0, None, 2.0])
        vectors, ranker = random_vectors(books, dim=16), random_ranker(books)
        plant(connection, vectors, ranker=ranker)
    with Recommender(database) as recommender:
        lines = recommender.recommend(1, 500)
        plain = {one.book_id: one for one in recommender.recommend(1, 500, ranker=False)}
    assert len(lines) == 497
    assert [one.score for one in lines] != [one.similarity for one in lines]
    for one in lines:
        row = one.book_id - 1
        part = slice(ranker.offsets[row], ranker.offsets[row + 1])
        weights = dict(zip(ranker.sources[part].tolist(), ranker.weights[part], strict=True))
        voices = {19: 0.9, 9: 0.7, 29: 0.2}
        heard: dict[int, float] = {}
        for met, voice in voices.items():
            for trait in ranker.traits[ranker.trait_offsets[met] : ranker.trait_offsets[met + 1]]:
                heard[int(trait)] = heard.get(int(trait), 0.0) + voice
        spoken = sum(weights.get(place, 0) * voice for place, voice in voices.items())
        spoken += sum(weights.get(trait, 0) * np.log(1 + total) for trait, total in heard.items())
        assert one.similarity == plain[one.book_id].similarity == plain[one.book_id].score
        assert one.score == pytest.approx(0.2 * one.similarity + spoken, abs=2e-6)


def test_a_lead_far_from_the_vector_is_a_candidate(database: Database) -> None:
    """The last of 1,500 by similarity is first by evidence, and no neighbour of the vector."""
    plant_shop(database, normalised=True, users=20)
    with database.connect() as connection, Recommender(database) as recommender:
        last = recommender.recommend(4, BOOKS)[-1].book_id
        (met,) = connection.execute(
            "SELECT min(book_id) FROM tterec.ratings WHERE user_id = 4"
        ).fetchone() or (0,)
        books = np.arange(1, BOOKS + 1)
        ranker = random_ranker(books, candidates=20)
        leads = np.full((BOOKS, 1), -1)
        leads[met - 1] = last
        evidence = replace(
            ranker,
            leads=leads,
            offsets=np.concatenate([[0], (books >= last).astype(np.int64)]),
            sources=np.array([met - 1]),
            weights=np.array([5.0], dtype=np.float32),
        )
        vectors = random_vectors(books, range(1, 21, 2), dim=32, scale=2.0)
        plant(connection, vectors, ranker=evidence, ef_search=400)
        connection.commit()
        (_, many), *_ = recommender.recommend_many([4], 10)
        assert by_sql(connection, "recommend(4)")[0]["book_id"] == last
        assert recommender.recommend(4)[0].book_id == many[0].book_id == last
        assert len(many) == len(recommender.recommend(4)) == 10


def test_a_rating_committed_now_is_excluded_now(database: Database) -> None:
    plant_shop(database, normalised=True, users=20)
    with Recommender(database) as recommender, database.connect(autocommit=True) as app:
        for user in (4, 9, STRANGER):  # by history, by profile, popular
            app.execute("INSERT INTO tterec.users VALUES (%s) ON CONFLICT DO NOTHING", (user,))
            first = recommender.recommend(user)[0].book_id
            assert by_sql(app, "recommend(%s)", user)[0]["book_id"] == first
            app.execute(
                "INSERT INTO tterec.ratings (user_id, book_id, rating) VALUES (%s, %s, NULL)",
                (user, first),
            )
            assert first not in {one.book_id for one in recommender.recommend(user, BOOKS)}
            assert first not in {
                one["book_id"] for one in by_sql(app, "recommend(%s, %s)", user, BOOKS)
            }
            again = by_sql(app, "recommend(%s, %s, exclude_rated => false)", user, BOOKS)
            assert first in {one["book_id"] for one in again}
            assert len(again) == BOOKS


def test_identical_books_get_identical_scores_and_rank_by_id(database: Database) -> None:
    with database.connect() as connection:
        books = plant_books(connection, 400)
        plant_ratings(connection, 1, [400, 399, 398], [9.0, 8.0, None])
        vectors = random_vectors(books, [1], dim=48)
        embeddings = vectors.item_embeddings.copy()
        embeddings[40:60] = embeddings[40]  # books 41 to 60 are one book
        direction = vectors.profile_vectors[0] + (
            vectors.history_weights[[9, 8, 11]] @ vectors.history_vectors[[399, 398, 397]]
        ) / np.sqrt(3)
        embeddings[40:60] += 2 * direction / np.linalg.norm(direction)
        embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
        plant(connection, replace(vectors, item_embeddings=embeddings))
    with database.connect() as connection, Recommender(database) as recommender:
        for k in (7, 20):  # 7: the cut goes through the twins
            sql = by_sql(connection, "recommend(1, %s)", k)
            python = recommender.recommend(1, k)
            (_, many), *_ = recommender.recommend_many([1], k)
            wanted = list(range(41, 41 + k))
            assert [one["book_id"] for one in sql] == wanted
            assert [one.book_id for one in python] == wanted
            assert [one.book_id for one in many] == wanted
            assert len({one["score"] for one in sql}) == 1
            assert len({one.score for one in python}) == 1


def test_who_has_rated_all_that_is_near_still_gets_k(database: Database) -> None:
    plant_shop(database, normalised=True, users=20)
    with database.connect() as connection:
        connection.execute("UPDATE tterec.models SET ef_search = 40")
        near = [one["book_id"] for one in by_sql(connection, "recommend(3, 150)")]
        connection.execute(
            "INSERT INTO tterec.ratings (user_id, book_id, rated_at)"
            " SELECT 3, unnest(%s::bigint[]), '2001-01-01'",
            (near,),
        )
    with database.connect() as connection, Recommender(database) as recommender:
        sql = by_sql(connection, "recommend(3)")
        assert len(sql) == 10
        assert not {one["book_id"] for one in sql} & set(near)
        assert len(recommender.recommend(3)) == 10


@pytest.mark.parametrize("ranker", [True, False])
def test_k_beyond_the_catalogue_is_the_catalogue_without_the_rated(
    database: Database, ranker: bool
) -> None:
    plant_shop(database, normalised=True, users=20, ranker=ranker)
    with database.connect() as connection, Recommender(database) as recommender:
        connection.execute("DELETE FROM tterec.books WHERE book_id IN (11, 12)")
        connection.commit()
        (rated,) = connection.execute(
            "SELECT count(*) FROM tterec.ratings WHERE user_id = 4"
        ).fetchone() or (0,)
        for k in (BOOKS, 10**9, 2**31 - 1):
            assert len(by_sql(connection, "recommend(4, %s)", k)) == BOOKS - 2 - rated
            assert len(recommender.recommend(4, k)) == BOOKS - 2 - rated
        assert by_sql(connection, "recommend(4, 0)") == []
        assert recommender.recommend(4, 0) == []
        with pytest.raises(errors.InvalidArgument, match="negative"):
            recommender.recommend(4, -1)
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="negative"):
            by_sql(connection, "recommend(4, -1)")


def test_before_any_training_popular_books_are_counted_live(database: Database) -> None:
    with database.connect() as connection:
        plant_books(connection, 5)
        for user in range(1, 60):
            plant_ratings(connection, user, [2, 3], [9.0, 4.0])
    with database.connect() as connection, Recommender(database) as recommender:
        sql = by_sql(connection, "recommend(999)")
        assert [one["book_id"] for one in sql] == [2, 1, 4, 5, 3]
        assert {one["source"] for one in sql} == {"popular"}
        assert {one["similarity"] for one in sql} == {None}
        assert_same(sql, [asdict(one) for one in recommender.recommend(999)])
        # The mean of all ratings is 6.5; 59 nines are shrunk towards it as by 50 such ratings.
        assert sql[0]["score"] == pytest.approx((59 * 9 + 50 * 6.5) / (59 + 50), abs=1e-5)


def test_a_reader_role_may_ask_in_a_read_only_transaction_and_keeps_its_settings(
    database: Database,
) -> None:
    plant_shop(database, normalised=True, users=20)
    with database.connect() as connection:
        connection.execute("UPDATE tterec.books SET year = 1950 + book_id % 20")
    settings = ("hnsw.ef_search", "hnsw.iterative_scan", "search_path", "enable_seqscan")
    with database.connect() as connection:
        connection.execute(f"SET ROLE {READER}".encode())
        connection.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY")
        connection.execute("SELECT '[1]'::vector")  # loads the library, whose settings these are
        connection.execute("SET hnsw.ef_search = 77")
        connection.execute("SET search_path = pg_temp")
        before = [connection.execute(f"SHOW {name}".encode()).fetchone() for name in settings]
        connection.commit()
        calls = ("recommend(4)", "recommend('4')", "popular_books()", "similar_books('0000000004')")
        for call in (*calls, "recommend_for_books(ARRAY['0000000004'])", "recommend(4, 10, false)"):
            assert len(by_sql(connection, call)) == 10
        assert len(by_sql(connection, "recommend(4, 5, max_year => 1960)")) == 5
        assert connection.execute("SELECT tterec.score(4, '0000000004')").fetchone() != (None,)
        assert connection.execute("SELECT * FROM tterec.explain('4', '0000000004')").fetchall()
        assert connection.execute("SELECT * FROM tterec.live_item_vectors").fetchall()
        after = [connection.execute(f"SHOW {name}".encode()).fetchone() for name in settings]
        assert after == before
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            connection.execute("INSERT INTO tterec.books (isbn) VALUES ('x')")
        connection.rollback()
        connection.execute("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE")
        connection.commit()
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("INSERT INTO tterec.books (isbn) VALUES ('x')")


@pytest.mark.parametrize("ranker", [True, False])
def test_an_error_half_way_leaves_the_settings_of_the_caller(
    database: Database, ranker: bool
) -> None:
    plant_shop(database, normalised=True, users=20, ranker=ranker)
    settings = ("hnsw.ef_search", "hnsw.iterative_scan", "search_path")
    wrongs = (
        ("UPDATE tterec.models SET ef_search = 5", "recommend(4, -1)"),
        # The functions have set the index's settings when they meet these.
        ("DROP VIEW tterec.catalogue", "recommend(4)"),
        ("DROP VIEW tterec.catalogue", "recommend(4, author => 'x')"),
        ("ALTER TABLE tterec.item_vectors_1 RENAME TO elsewhere", "recommend(4)"),
        ("ALTER TABLE tterec.item_vectors_1 RENAME TO elsewhere", "recommend(1)"),
    )
    with database.connect() as connection:
        connection.execute("SELECT '[1]'::vector")
        connection.execute("SET LOCAL hnsw.ef_search = 77")
        connection.execute("SET LOCAL search_path = public, pg_temp")
        before = [connection.execute(f"SHOW {name}".encode()).fetchone() for name in settings]
        for spoil, call in wrongs:
            connection.execute("SAVEPOINT good")
            connection.execute(spoil.encode())
            connection.execute("SAVEPOINT spoilt")
            with pytest.raises(psycopg.Error):
                by_sql(connection, call)
            connection.execute("ROLLBACK TO spoilt")
            after = [connection.execute(f"SHOW {name}".encode()).fetchone() for name in settings]
            assert after == before
            connection.execute("ROLLBACK TO good")
        assert len(by_sql(connection, "recommend(4)")) == 10
        after = [connection.execute(f"SHOW {name}".encode()).fetchone() for name in settings]
        assert after == before


def test_the_unfiltered_path_uses_the_index(database: Database) -> None:
    with database.connect() as connection:
        books = plant_books(connection, 6000)
        generation = plant(connection, random_vectors(books, dim=32))
        plan = connection.execute(
            f"EXPLAIN SELECT item_id FROM tterec.item_vectors_{generation} ORDER BY embedding <#>"
            " (SELECT embedding FROM tterec.history_vectors_1 LIMIT 1) LIMIT 10".encode()
        ).fetchall()
    assert any("Index Scan" in line for (line,) in plan)


def test_two_transactions_see_one_generation_each(database: Database) -> None:
    plant_shop(database, normalised=True, users=20)
    with database.connect() as reader, database.connect() as trainer:
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        before = by_sql(reader, "recommend(4)")
        books = np.arange(1, BOOKS + 1)
        plant(trainer, random_vectors(books, dim=16, seed=9))
        trainer.commit()
        assert by_sql(reader, "recommend(4)") == before
        reader.commit()
        after = by_sql(reader, "recommend(4)")
        assert after != before
        assert len(after) == 10
