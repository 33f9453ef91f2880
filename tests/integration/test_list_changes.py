"""Precomputed lists while items and users change: a list that could be wrong is not taken."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.integration.generations import (
    plant,
    plant_books,
    plant_ratings,
    random_ranker,
    random_vectors,
)
from tests.integration.test_second_stage import plant_readers
from tests.integration.test_surfaces import assert_same, by_sql
from tests.integration.test_train import CONFIG, FILM_FILES, FILMS, SHOP
from tests.integration.test_update import NEW_BOOK, one, run
from tests.integration.test_user_lists import live, serves
from tterec import Recommender, pipeline, updating, working
from tterec.database.connection import Connection, Database
from tterec.precomputing import precompute
from tterec.store import item_updates, list_changes, locks
from tterec.store.batches import batch

USERS = range(1, 31)


def plant_lists(database: Database, *, ranker: bool) -> None:
    """Lists of the 10 nearest of 1,200 books, or of what a second stage makes of the 60 nearest."""
    with database.connect() as connection:
        books = plant_readers(connection, 30)
        stage = random_ranker(books) if ranker else None
        plant(connection, random_vectors(books, dim=24), ranker=stage, ef_search=600)
    assert precompute(database, top=60 if ranker else 10).made == 30


def rewrite(connection: Connection, kind: str, ids: list[int], matrix: np.ndarray) -> None:
    """What an update does to items, with these vectors (n, d)."""
    with batch(connection, 1) as transaction:
        transaction.items(ids)
        item_updates.write_vectors(connection, kind, 1, np.array(ids), matrix.astype(np.float32))


def unit(*rows: np.ndarray) -> np.ndarray:
    matrix = np.array(rows, dtype=np.float64)
    return matrix / np.linalg.norm(matrix, axis=1, keepdims=True)


def vector_of(connection: Connection, user: int) -> np.ndarray:
    row = connection.execute("SELECT tterec.user_vector(%s)::real[]", (user,)).fetchone()
    assert row is not None
    return np.array(row[0])


def assert_right(database: Database) -> set[int]:
    """Every user gets what would be computed; those whose list is taken."""
    with database.connect() as connection, Recommender(database) as recommender:
        for user in USERS:
            found = by_sql(connection, "recommend(%s, 10)", user)
            assert_same(found, live(connection, user, 10))
            assert_same(found, [asdict(line) for line in recommender.recommend(user, 10)])
        return {user for user in USERS if serves(connection, user)}


@pytest.mark.parametrize("ranker", [True, False])
def test_a_book_counts_for_those_whose_lists_it_enters_or_leaves(
    database: Database, ranker: bool
) -> None:
    plant_lists(database, ranker=ranker)
    with database.connect(autocommit=True) as connection:
        mine = vector_of(connection, 7)
        connection.execute("INSERT INTO tterec.books (book_id, isbn) VALUES (5001, 'new')")
        rewrite(connection, "item_vectors", [5001], unit(mine))
        if ranker:
            connection.execute(
                "INSERT INTO tterec.item_evidence_1 SELECT 5001, NULL, weights, '{}', '{}'"
                " FROM tterec.item_evidence_1 WHERE item_id = 10"
            )
        served = assert_right(database)
        assert 7 not in served
        assert len(served) > 10 or ranker
        assert by_sql(connection, "recommend(7, 10)")[0]["isbn"] == "new" or ranker
        done = precompute(database, top=60 if ranker else 10)
        assert 0 < done.made <= 30 - len(served)
        assert assert_right(database) == set(USERS)
        assert one(database, "SELECT count(*) FROM tterec.list_changes") == 0
        # Away from user 7 again, and not near to anybody.
        rewrite(connection, "item_vectors", [5001], unit(-mine))
        served = assert_right(database)
        assert 7 not in served
        assert len(served) > 10 or ranker  # whose leads here are anywhere: so are their lists
        precompute(database, top=60 if ranker else 10)
        assert assert_right(database) == set(USERS)


def test_a_book_of_the_history_moves_its_readers(database: Database) -> None:
    plant_lists(database, ranker=True)
    with database.connect(autocommit=True) as connection:
        readers = {
            row[0]
            for row in connection.execute(
                "SELECT user_id FROM tterec.ratings WHERE book_id = 10"
            ).fetchall()
        }
        if not readers:
            plant_ratings(connection, 3, [10], [9.0])
            precompute(database, top=60)
            readers = {3}
        rewrite(connection, "history_vectors", [10], np.ones((1, 24)))
        served = assert_right(database)
        assert not served & readers
        assert served
        done = precompute(database, top=60)
        assert done.made == 30 - len(served)
        assert assert_right(database) == set(USERS)


def test_a_rating_that_was_away_while_lists_were_compared(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its reader's list is of what the book was before, also when the rating is there again."""
    plant_lists(database, ranker=True)
    pending = list_changes.pending
    with database.connect(autocommit=True) as connection:
        row = connection.execute(
            "DELETE FROM tterec.ratings WHERE (user_id, book_id) IN"
            " (SELECT user_id, book_id FROM tterec.ratings LIMIT 1)"
            " RETURNING user_id, book_id, rating, rated_at"
        ).fetchone()
        assert row is not None
        back = "INSERT INTO tterec.ratings VALUES (%s, %s, %s, %s)"
        connection.execute(back.encode(), row)
        rewrite(connection, "history_vectors", [row[1]], np.ones((1, 24)))

        def meanwhile(*given: Any) -> list[list_changes.Change]:
            connection.execute(
                "DELETE FROM tterec.ratings WHERE user_id = %s AND book_id = %s", row[:2]
            )
            return pending(*given)

        monkeypatch.setattr(list_changes, "pending", meanwhile)
        precompute(database, top=60)
        connection.execute(back.encode(), row)
    assert row[0] not in assert_right(database)


def test_a_book_that_the_readers_of_another_are_led_to(database: Database) -> None:
    """However far it is from them, the second stage looks at it."""
    plant_lists(database, ranker=True)
    with database.connect(autocommit=True) as connection:
        row = connection.execute(
            "SELECT r.user_id, lead FROM tterec.ratings r JOIN tterec.item_evidence_1 e"
            " ON e.item_id = r.book_id, unnest(e.leads) lead LIMIT 1"
        ).fetchone()
        assert row is not None
        user, lead = row
        far = unit(-vector_of(connection, user))
        rewrite(connection, "item_vectors", [lead], far)
        precompute(database, top=60)
        connection.execute("UPDATE tterec.user_lists SET nearest = 0.9 WHERE user_id = %s", (user,))
        rewrite(connection, "item_vectors", [lead], unit(far[0] + 0.1))
        assert not serves(connection, user)
        assert user in _made_again(database, lambda: precompute(database, top=60))


def _made_again(database: Database, work: Callable[[], object]) -> set[int]:
    versions = "SELECT user_id, xmin::text FROM tterec.user_lists"
    with database.connect(autocommit=True) as connection:
        before = set(connection.execute(versions.encode()).fetchall())
        work()
        return {row[0] for row in connection.execute(versions.encode()).fetchall()} - {
            user for user, _ in before & set(connection.execute(versions.encode()).fetchall())
        }


def test_too_many_changes_are_asked_no_more(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant_lists(database, ranker=False)
    monkeypatch.setattr(list_changes, "MOST", 250)
    random = np.random.default_rng(1)
    with database.connect(autocommit=True) as connection:
        ids = list(range(1, 202))
        rewrite(connection, "item_vectors", ids, unit(*random.normal(size=(201, 24))))
        assert one(database, "SELECT count(*) FROM tterec.list_changes") == 201
        assert assert_right(database) == set()
        rewrite(connection, "item_vectors", ids, unit(*random.normal(size=(201, 24))))
        assert one(database, "SELECT count(*) FROM tterec.list_changes") == 1
        assert assert_right(database) == set()
        assert precompute(database, top=10).made == 30
        assert assert_right(database) == set(USERS)


def test_a_book_that_was_away_comes_back(database: Database) -> None:
    """The catalogue query returned it no more, then again; no update came between."""
    with database.connect() as connection:
        books = plant_books(connection, 400)
        for user in USERS:
            plant_ratings(connection, user, [user, 100 + user], [9.0, 3.0])
        plant(connection, random_vectors(books, dim=8), ef_search=400)
        first = by_sql(connection, "recommend(3, 1)")[0]
        connection.execute("DELETE FROM tterec.books WHERE book_id = %s", (first["book_id"],))
    precompute(database, top=20)
    with database.connect() as connection:
        assert serves(connection, 3)
        connection.execute(
            "INSERT INTO tterec.books (book_id, isbn, title) VALUES (%s, %s, %s)",
            (first["book_id"], first["isbn"], first["title"]),
        )
    assert 3 not in assert_right(database)
    with database.connect() as connection:
        assert by_sql(connection, "recommend(3, 1)") == [first]


def test_a_change_that_was_not_committed_when_lists_were_made(database: Database) -> None:
    plant_lists(database, ranker=False)
    with database.connect(autocommit=True) as connection:
        mine = vector_of(connection, 7)
        with batch(connection, 1) as transaction:
            transaction.items([10])
            item_updates.write_vectors(
                connection, "item_vectors", 1, np.array([10]), unit(mine).astype(np.float32)
            )
            plant_note = one(database, "SELECT change FROM tterec.list_sets")
            assert precompute(database, top=11).made == 30
        assert one(database, "SELECT change FROM tterec.list_sets") > plant_note
    assert 7 not in assert_right(database)


@pytest.fixture
def trained(database: Database) -> Database:
    """A small bookshop with a live generation, nothing queued, and lists."""
    run(database, SHOP)
    pipeline.train(database, CONFIG)
    working.work(database, once=True)
    precompute(database, top=20)
    return database


def test_updates_and_workers(trained: Database) -> None:
    assert assert_right(trained) == set(USERS)
    run(trained, NEW_BOOK)
    assert assert_right(trained) == set(USERS)  # it has no vector yet
    working.work(trained, once=True)
    assert_right(trained)
    assert "9000000000" in [line["isbn"] for line in _lines(trained, 1, 60)]
    precompute(trained, top=20)
    assert assert_right(trained) == set(USERS)
    run(trained, "UPDATE tterec.books SET title = 'Other', author = 'Author 2' WHERE book_id = 5")
    run(trained, "DELETE FROM tterec.books WHERE book_id = 30")
    updating.update(trained)
    assert_right(trained)
    precompute(trained, top=20)
    assert assert_right(trained) == set(USERS)


def _lines(database: Database, user: int, k: int) -> list[dict[str, object]]:
    with database.connect() as connection:
        return by_sql(connection, "recommend(%s, %s)", user, k)


def test_a_book_that_is_as_it_was_changes_no_list(trained: Database) -> None:
    run(trained, "UPDATE tterec.books SET image_url_s = 'http://x'")
    working.work(trained, once=True)
    assert assert_right(trained) == set(USERS)


def test_another_profile_is_another_list_and_who_is_forgotten_has_none(trained: Database) -> None:
    run(trained, "UPDATE tterec.users SET age = 80, location = 'oslo, norway' WHERE user_id = 4")
    assert 4 in assert_right(trained)  # it has no other vector yet
    working.work(trained, once=True)
    assert assert_right(trained) == set(USERS) - {4}
    assert precompute(trained, top=20).made == 1
    pipeline.train(trained, CONFIG)
    precompute(trained, top=20)
    run(trained, "DELETE FROM tterec.users WHERE user_id = 4")
    assert one(trained, "SELECT count(*) FROM tterec.user_lists WHERE user_id = 4") == 2
    updating.update(trained)
    assert one(trained, "SELECT count(*) FROM tterec.user_lists WHERE user_id = 4") == 0


def test_users_with_text_ids(database: Database, tmp_path: Path) -> None:
    run(database, FILMS)
    files = {}
    for name, text in FILM_FILES.items():
        files[name] = tmp_path / f"{name}.sql"
        files[name].write_text(text, encoding="utf-8")
    pipeline.train(database, CONFIG, files)
    assert precompute(database, top=15).made == 60
    with database.connect() as connection, Recommender(database) as recommender:
        number = connection.execute(
            "SELECT user_id FROM tterec.user_keys WHERE key = 'member-7'"
        ).fetchone()
        assert number is not None
        assert serves(connection, number[0])
        found = by_sql(connection, "recommend('member-7', 10)")
        assert_same(found, live(connection, number[0], 10))
        assert_same(found, [asdict(line) for line in recommender.recommend("member-7", 10)])
        plan = connection.execute(
            "EXPLAIN ANALYZE SELECT * FROM tterec.recommend('member-7')"
        ).fetchall()
        assert any("recommend_live" in row[0] and "never executed" in row[0] for row in plan)
        connection.execute("INSERT INTO shop.views VALUES ('member-7', %s, 5)", (found[0]["isbn"],))
        assert not serves(connection, number[0])
        assert found[0]["isbn"] not in [
            line["isbn"] for line in by_sql(connection, "recommend('member-7', 10)")
        ]


def ends_only_after(release: Callable[[], object], work: Callable[[], object]) -> None:
    done: list[object] = []
    thread = threading.Thread(target=lambda: done.append(work()), daemon=True)
    thread.start()
    thread.join(1)
    assert not done
    release()
    thread.join(30)
    assert done


def test_the_first_lists_wait_for_who_found_nobody_to_tell_of_a_change(database: Database) -> None:
    with database.connect() as connection:
        books = plant_readers(connection, 30)
        plant(connection, random_vectors(books, dim=24), ef_search=600)
    with database.connect() as writer:
        mine = vector_of(writer, 7)
        item_updates.write_vectors(
            writer, "item_vectors", 1, np.array([10]), unit(mine).astype(np.float32)
        )
        list_changes.note(writer, 1, {10: (None, None, None)})
        ends_only_after(writer.commit, lambda: precompute(database, top=10))
    assert assert_right(database) == set(USERS)


def test_the_list_of_who_left_a_shop_goes_although_no_training_knew_them(
    database: Database, tmp_path: Path
) -> None:
    run(database, FILMS)
    files = {}
    for name, text in FILM_FILES.items():
        files[name] = tmp_path / f"{name}.sql"
        files[name].write_text(text, encoding="utf-8")
    pipeline.train(database, CONFIG, files)
    run(database, "INSERT INTO shop.views (member, film, stars) VALUES ('newcomer', 'film-1', 5)")
    updating.update(database)
    number = one(database, "SELECT user_id FROM tterec.user_keys WHERE key = 'newcomer'")
    precompute(database, top=15)
    listed = f"SELECT count(*) FROM tterec.user_lists WHERE user_id = {number}"
    assert one(database, listed) == 1
    run(database, "DELETE FROM shop.views WHERE member = 'newcomer'")
    updating.update(database)
    assert one(database, listed) == 0


def test_who_changes_users_and_who_makes_lists_wait_for_each_other(trained: Database) -> None:
    """Else the list of a user who is being forgotten could come back, or be of an old profile."""
    run(trained, "DELETE FROM tterec.users WHERE user_id = 4")
    with trained.connect(autocommit=True) as maker, ExitStack() as made:
        made.enter_context(locks.making_lists(maker))
        ends_only_after(made.close, lambda: updating.update(trained))
    run(trained, "UPDATE tterec.ratings SET rating = 4 WHERE user_id = 5")
    with trained.connect() as changer:
        locks.await_lists(changer)
        ends_only_after(changer.commit, lambda: precompute(trained, top=20))
    assert assert_right(trained) == set(USERS) - {4}
