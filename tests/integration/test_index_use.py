"""Without filters a list comes from an index, whatever the planner thinks of the table."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from tests.integration.generations import (
    plant,
    plant_books,
    plant_ratings,
    random_ranker,
    random_vectors,
)
from tests.integration.test_surfaces import by_sql
from tterec import Recommender
from tterec.database import ivf
from tterec.database.connection import Connection, Database

BOOKS = 2500
HEAVY, LIGHT, PROFILE = 1, 2, 3
CALLS = {
    "history": f"recommend({LIGHT})",
    "a long history": f"recommend({HEAVY})",
    "profile": f"recommend({PROFILE})",
    "a long list": f"recommend({LIGHT}, 900)",
    "books": "recommend_for_books(ARRAY['0000000004', '0000000009'])",
    "a book": "similar_books('0000000004')",
    "a long list of a book's": "similar_books('0000000004', 900)",
}


@pytest.fixture(scope="module", params=[True, False], ids=["ranker", "similarity"])
def shop(server: str, template: str, request: pytest.FixtureRequest) -> Iterator[Database]:
    """Few books with a wide search: the planner, left alone, would rather read and sort them."""
    from tests.conftest import _drop, create_database, url_of

    name = create_database(server, template)
    database = Database(url_of(server, name))
    with database.connect() as connection:
        books = plant_books(connection, BOOKS)
        rng = np.random.default_rng(1)
        for user, length in ((HEAVY, 1000), (LIGHT, 5)):
            read = rng.choice(books, length, replace=False).tolist()
            plant_ratings(connection, user, read, rng.integers(0, 11, length).tolist())
        connection.execute("INSERT INTO tterec.users (user_id) VALUES (%s)", (PROFILE,))
        ranker = random_ranker(books) if request.param else None
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ivf, "LEAST_ROWS", BOOKS)
            plant(connection, random_vectors(books, [PROFILE]), ranker=ranker, ef_search=600)
    yield database
    _drop(server, name)


def scans(connection: Connection) -> tuple[int, int, int]:
    """How often this transaction has begun a scan of the HNSW index, of the IVF index, and of the
    whole table."""
    row = connection.execute(
        "SELECT pg_stat_get_xact_numscans('tterec.item_vectors_1_embedding_idx'::regclass),"
        " coalesce(pg_stat_get_xact_numscans(to_regclass('tterec.item_vectors_1_ivf_idx')), 0),"
        " pg_stat_get_xact_numscans('tterec.item_vectors_1'::regclass)"
    ).fetchone()
    assert row is not None
    return int(row[0]), int(row[1]), int(row[2])


def by_index(asked: str, calls: int) -> tuple[int, int, int]:
    """What `scans` returns after some calls: who has met hundreds goes by the IVF index."""
    return (0, calls, 0) if asked == "a long history" else (calls, 0, 0)


@pytest.mark.parametrize("asked", CALLS)
def test_sql_uses_the_index_at_every_call(shop: Database, asked: str) -> None:
    for _ in range(2):  # sessions; in each, plans are made for the values first, and kept later
        with shop.connect() as connection:
            for calls in range(1, 8):
                assert by_sql(connection, CALLS[asked])
                assert scans(connection) == by_index(asked, calls)


@pytest.mark.parametrize("asked", CALLS)
def test_also_without_statistics(shop: Database, asked: str) -> None:
    with shop.connect() as connection:
        connection.execute(
            "DELETE FROM pg_statistic WHERE starelid = 'tterec.item_vectors_1'::regclass"
        )
        connection.execute(
            "UPDATE pg_class SET reltuples = -1, relpages = 0"
            " WHERE oid = 'tterec.item_vectors_1'::regclass"
        )
        assert by_sql(connection, CALLS[asked])
        assert scans(connection) == by_index(asked, 1)
        connection.rollback()


def test_python_uses_the_index_at_every_call(shop: Database) -> None:
    with Recommender(shop) as recommender, shop.connect(autocommit=True) as watching:
        before = shared_scans(watching)
        for _ in range(7):
            for user, k in ((HEAVY, 200), (LIGHT, 300), (PROFILE, 300)):
                assert len(recommender.recommend(user, k, ranker=False)) == k
            assert len(recommender.similar("0000000004", 300)) == 300
        recommender.close()  # what a session has done is told when it ends, at the latest
        for _ in range(100):
            after = shared_scans(watching)
            if after[0] >= before[0] + 21 and after[1] >= before[1] + 7:
                break
            watching.execute("SELECT pg_sleep(0.05), pg_stat_clear_snapshot()")
        assert [new - old for old, new in zip(before, after, strict=True)] == [21, 7, 0]


def shared_scans(connection: Connection) -> tuple[int, int, int]:
    """The same of all sessions, as far as they have told."""
    row = connection.execute(
        "SELECT pg_stat_get_numscans('tterec.item_vectors_1_embedding_idx'::regclass),"
        " pg_stat_get_numscans('tterec.item_vectors_1_ivf_idx'::regclass),"
        " pg_stat_get_numscans('tterec.item_vectors_1'::regclass)"
    ).fetchone()
    assert row is not None
    return int(row[0]), int(row[1]), int(row[2])


def test_a_list_as_long_as_the_catalogue_is_a_scan(shop: Database) -> None:
    with shop.connect() as connection:
        assert len(by_sql(connection, f"recommend({LIGHT}, {BOOKS})")) == BOOKS - 5
        assert scans(connection) == (0, 0, 1)
