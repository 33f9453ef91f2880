"""The views on the live generation's vectors follow promotion and rollback, and use its index."""

from __future__ import annotations

import threading
import time

import numpy as np
import psycopg
import pytest

from tests.integration.generations import plant, plant_books, plant_ratings, random_vectors
from tterec import errors, pipeline
from tterec.database import schema
from tterec.database.connection import Connection, Database
from tterec.database.roles import READER
from tterec.store import generations, live_views, locks, pruning

BOOKS = 2000


def publish(connection: Connection, dim: int, seed: int = 0) -> int:
    """A generation of another dimension, ready to be promoted."""
    vectors = random_vectors(np.arange(1, BOOKS + 1), [1, 2, 3], dim=dim, seed=seed)
    generation = generations.begin(connection)
    generations.publish_vectors(connection, generation, vectors)
    return generation


def counts(connection: Connection) -> list[int]:
    """The rows of the three views."""
    return [
        row[0]
        for name in live_views.VIEWS
        for row in connection.execute(f"SELECT count(*) FROM tterec.{name}".encode())
    ]


def dimensions(connection: Connection) -> set[int]:
    rows = connection.execute(
        "SELECT vector_dims(embedding) FROM tterec.live_item_vectors UNION"
        " SELECT vector_dims(embedding) FROM tterec.live_history_vectors UNION"
        " SELECT vector_dims(embedding) FROM tterec.live_profile_vectors"
    )
    return {row[0] for row in rows}


def test_before_the_first_promotion_they_are_empty(database: Database) -> None:
    assert tuple(live_views.VIEWS) == schema.LIVE_VIEWS
    with database.connect() as connection:
        assert counts(connection) == [0, 0, 0]
        columns = connection.execute("SELECT * FROM tterec.live_item_vectors").description
        assert [one.name for one in columns or ()] == ["item_id", "embedding"]


def test_they_follow_promotion_rollback_and_an_upgrade(database: Database) -> None:
    with database.connect(autocommit=True) as connection:
        plant_books(connection, BOOKS)
        first, second = publish(connection, 8), publish(connection, 12)
        generations.promote(connection, first)
        assert counts(connection) == [BOOKS, BOOKS, 3]
        assert dimensions(connection) == {8}
        connection.execute("CREATE VIEW public.mine AS SELECT * FROM tterec.live_item_vectors")
        generations.promote(connection, second)
        assert dimensions(connection) == {12}
        assert generations.rollback(connection) == first
        assert dimensions(connection) == {8}
        pipeline.upgrade(database)
        assert dimensions(connection) == {8}
        mine = "SELECT DISTINCT vector_dims(embedding) FROM public.mine"
        assert connection.execute(mine.encode()).fetchall() == [(8,)]
        (same,) = connection.execute(
            f"SELECT count(*) FROM tterec.live_item_vectors JOIN tterec.item_vectors_{first} v"
            " USING (item_id) WHERE v.embedding = live_item_vectors.embedding".encode()
        ).fetchone() or (0,)
        assert same == BOOKS


def test_the_generation_before_the_previous_can_be_pruned(database: Database) -> None:
    with database.connect(autocommit=True) as connection:
        numbers = [publish(connection, 8, seed) for seed in range(3)]
        for number in numbers:
            generations.promote(connection, number)
        assert pruning.prune(connection).pruned == numbers[:1]
        assert counts(connection) == [BOOKS, BOOKS, 3]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT item_id FROM tterec.live_item_vectors ORDER BY embedding <#> %s::vector LIMIT 10",
        "SELECT c.isbn, c.title FROM tterec.live_item_vectors v JOIN tterec.catalogue c"
        " USING (item_id) ORDER BY v.embedding <#> (SELECT %s::vector) LIMIT 10",
    ],
)
def test_the_index_is_used_through_the_view(database: Database, query: str) -> None:
    with database.connect() as connection:
        plant_books(connection, BOOKS)
        plant(connection, random_vectors(np.arange(1, BOOKS + 1), dim=16))
        connection.execute("ANALYZE")
        (vector,) = connection.execute(
            "SELECT embedding FROM tterec.live_item_vectors WHERE item_id = 7"
        ).fetchone() or ("",)
        plan = connection.execute(f"EXPLAIN {query}".encode(), (vector,)).fetchall()
        assert any("Index Scan using item_vectors_1_embedding_idx" in line for (line,) in plan)
        found = connection.execute(query.encode(), (vector,)).fetchall()
        assert len(found) == 10
        assert found[0][0] in (7, "0000000007")


def test_the_order_of_a_users_vector_is_that_of_similarity(database: Database) -> None:
    with database.connect() as connection:
        plant_books(connection, BOOKS)
        plant_ratings(connection, 1, [5, 6], [9.0, 7.0])
        plant(connection, random_vectors(np.arange(1, BOOKS + 1), dim=16), ef_search=400)
        connection.execute(f"SET ROLE {READER}".encode())
        mine = connection.execute(
            "SELECT item_id FROM tterec.live_item_vectors WHERE item_id NOT IN (5, 6)"
            " ORDER BY embedding <#> (SELECT tterec.user_vector(1)) LIMIT 5"
        ).fetchall()
        theirs = connection.execute("SELECT book_id FROM tterec.recommend(1, 5)").fetchall()
        assert mine == theirs


def test_an_older_snapshot_sees_none_rather_than_another_generations(database: Database) -> None:
    with (
        database.connect(autocommit=True) as connection,
        database.connect() as older,
    ):
        generations.promote(connection, publish(connection, 8))
        older.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        older.execute("SELECT generation FROM tterec.active_model")
        generations.promote(connection, publish(connection, 12))
        assert counts(older) == [0, 0, 0]
        older.commit()
        assert counts(older) == [BOOKS, BOOKS, 3]


def test_a_reader_holds_a_promotion_but_not_other_readers(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "PROMOTION_TIMEOUT", "1500ms")
    with (
        database.connect(autocommit=True) as connection,
        database.connect() as reader,
        database.connect(autocommit=True) as other,
    ):
        first, second = publish(connection, 8), publish(connection, 12)
        generations.promote(connection, first)
        counts(reader)  # and its transaction goes on
        waited: list[float] = []
        over = threading.Event()

        def read() -> None:
            while not over.is_set():
                start = time.monotonic()
                assert counts(other) == [BOOKS, BOOKS, 3]
                waited.append(time.monotonic() - start)

        thread = threading.Thread(target=read)
        thread.start()
        with pytest.raises(psycopg.errors.LockNotAvailable):
            generations.promote(connection, second)
        over.set()
        thread.join()
        assert max(waited) < 1
        assert len(waited) > 10
        assert dimensions(connection) == {8}
        with pytest.raises(errors.Busy, match="try again"):
            pipeline.models_promote(database, second)
        reader.commit()
        pipeline.models_promote(database, second)
        assert dimensions(connection) == {12}


def test_check_names_a_view_that_somebody_dropped_and_upgrade_mends_it(database: Database) -> None:
    with database.connect() as connection:
        connection.execute("DROP VIEW tterec.live_profile_vectors")
    assert schema.differences(database) == ["missing view: tterec.live_profile_vectors"]
    pipeline.upgrade(database)
    assert schema.differences(database) == []
    with database.connect() as connection:
        connection.execute(f"SET ROLE {READER}".encode())
        assert counts(connection) == [0, 0, 0]
