"""Precomputed lists: the same as what would be computed, or not taken."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, fields
from typing import Any

import numpy as np
import psycopg
import pytest

from tests.conftest import create_database, url_of
from tests.integration.generations import (
    plant,
    plant_books,
    plant_ratings,
    random_ranker,
    random_vectors,
)
from tests.integration.test_surfaces import (
    COLUMNS,
    HISTORIES,
    STRANGER,
    assert_same,
    by_sql,
    plant_shop,
)
from tterec import Filters, Recommender, errors, pipeline, precomputing
from tterec.database.connection import Connection, Database
from tterec.database.roles import READER
from tterec.precomputing import precompute
from tterec.records import Progress
from tterec.store import generations, locks, pruning, user_lists

USERS = 36
LIVE = (
    "tterec.history_of(%(user)s::bigint) h,"
    " tterec.recommend_after(%(user)s, h.items, h.ratings, h.met, %(k)s,"
)


def live(connection: Connection, user: int, k: int, filters: str = "NULL") -> list[dict[str, Any]]:
    """What `recommend` would say without lists."""
    cursor = connection.execute(
        f"SELECT r.* FROM {LIVE} true, {filters}, NULL) r".encode(), {"user": user, "k": k}
    )
    return [dict(zip(COLUMNS.split(", "), row, strict=True)) for row in cursor]


def serves(connection: Connection, user: int, k: int = 10) -> bool:
    """Whether the user's list answers."""
    return len(by_sql(connection, "listed(%s, %s)", user, k)) == k


def executed(connection: Connection, call: str) -> list[str]:
    """What the plan of `recommend(...)` says of the live path's function."""
    rows = connection.execute(
        f"EXPLAIN (ANALYZE, COSTS OFF) SELECT * FROM tterec.{call}".encode()
    ).fetchall()
    return [row[0] for row in rows if "recommend_live" in row[0]]


@pytest.fixture(scope="module", params=[True, False], ids=["two stages", "one stage"])
def made(request: pytest.FixtureRequest, server: str, template: str) -> str:
    """The name of a database of users with histories of all lengths, and their lists; the second
    stage looks at 60 books."""
    name = create_database(server, template)
    database = Database(url_of(server, name))
    plant_shop(database, normalised=True, users=USERS, ranker=request.param)
    precompute(database, top=150)
    return name


@pytest.fixture
def shop(made: str, server: str) -> Iterator[Database]:
    """A copy of it."""
    name = create_database(server, made)
    yield Database(url_of(server, name))
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def depth(connection: Connection) -> int:
    row = connection.execute("SELECT ranker IS NULL FROM tterec.models").fetchone()
    return 150 if row == (True,) else 60


def test_lists_are_what_would_be_computed(shop: Database) -> None:
    with shop.connect() as connection, Recommender(shop) as recommender:
        served = 0
        deepest = depth(connection)
        for k in (1, 10, deepest, deepest + 1):
            many = dict(recommender.recommend_many(range(1, USERS + 1), k))
            for user in range(1, USERS + 1):
                served += serves(connection, user, k)
                found = by_sql(connection, "recommend(%s, %s)", user, k)
                assert_same(found, live(connection, user, k))
                assert_same(found, [asdict(one) for one in recommender.recommend(user, k)])
                assert_same(found, [asdict(one) for one in many[user]])
        known = sum(bool(HISTORIES[u % len(HISTORIES)] or u % 2) for u in range(1, USERS + 1))
        assert served == 3 * known


def test_the_live_path_is_not_begun_where_a_list_serves(shop: Database) -> None:
    with shop.connect() as connection:
        for call in ("recommend(4)", "recommend('4')", "recommend(4, 60)"):
            assert all("never executed" in line for line in executed(connection, call)), call
            assert executed(connection, call)
        for call in ("recommend(4, 151)", "recommend(4, 10, false)", f"recommend({STRANGER})"):
            assert not any("never executed" in line for line in executed(connection, call)), call
        connection.execute("PREPARE asked (bigint) AS SELECT * FROM tterec.recommend($1)")
        for _ in range(8):  # the sixth plan knows no user
            connection.execute("EXECUTE asked (4)")
        rows = connection.execute("EXPLAIN (ANALYZE) EXECUTE asked (4)").fetchall()
        assert any("recommend_live" in row[0] and "never executed" in row[0] for row in rows)


def test_odd_arguments_are_those_of_the_live_path(shop: Database) -> None:
    with shop.connect() as connection:
        assert by_sql(connection, "recommend(4, 0)") == []
        assert len(by_sql(connection, "recommend(4, NULL)")) == 10
        assert len(by_sql(connection, "recommend(NULL::bigint)")) == 10
        assert len(by_sql(connection, "recommend(4, 2147483647)")) > 900
        for call in ("recommend(4, -1)", "recommend(4, strategy => 'none')"):
            with pytest.raises(Exception, match=r"negative|unknown"), connection.transaction():
                connection.execute(f"SELECT * FROM tterec.{call}".encode())


@pytest.mark.parametrize(
    "change",
    [
        "INSERT INTO tterec.ratings VALUES (4, 1499, 9)",
        "DELETE FROM tterec.ratings WHERE (user_id, book_id) IN"
        " (SELECT user_id, book_id FROM tterec.ratings WHERE user_id = 4 LIMIT 1)",
        "UPDATE tterec.ratings SET rating = 10 - coalesce(rating, 3) WHERE user_id = 4",
        "UPDATE tterec.ratings SET rated_at = rated_at - interval '1 day' WHERE user_id = 4",
        "UPDATE tterec.ratings SET rating = NULL WHERE user_id = 4",
    ],
)
def test_a_history_that_changed_a_moment_ago_counts(shop: Database, change: str) -> None:
    with shop.connect() as connection:
        connection.execute("DELETE FROM tterec.ratings WHERE user_id = 4 AND book_id = 1499")
    precompute(shop, top=150)
    with shop.connect() as connection:
        assert serves(connection, 4)
        connection.execute(change.encode())
        assert not serves(connection, 4)
        assert serves(connection, 5)
        assert_same(by_sql(connection, "recommend(4)"), live(connection, 4, 10))
        connection.rollback()
        assert serves(connection, 4)


def test_a_book_that_left_is_not_shown(shop: Database) -> None:
    with shop.connect() as connection:
        first = by_sql(connection, "recommend(4, 20)")
        gone = [line["book_id"] for line in first[1:4]]
        connection.execute("DELETE FROM tterec.books WHERE book_id = ANY (%s)", (gone,))
        assert not serves(connection, 4)
        found = by_sql(connection, "recommend(4, 10)")
        assert [one["rank"] for one in found] == list(range(1, 11))
        assert [one["book_id"] for one in found] == [
            one["book_id"] for one in first if one["book_id"] not in gone
        ][:10]
        assert_same(found, live(connection, 4, 10))
        assert serves(connection, 4, 1)


def test_filters_of_the_call(shop: Database) -> None:
    """By a list where similarity alone orders it; a second stage looks at other books then."""
    with shop.connect() as connection, Recommender(shop) as recommender:
        one_stage = depth(connection) == 150
        connection.execute("UPDATE tterec.books SET year = 1900 + book_id % 100, author = 'A '")
        connection.commit()
        out, served = by_sql(connection, "recommend(4, 3)")[0]["isbn"], 0
        for arguments, filters in (
            ("min_year => 1950", Filters(min_year=1950)),
            ("author => 'a', max_year => 1998", Filters(author="a", max_year=1998)),
            (f"without_isbns => ARRAY['{out}']", Filters(without_isbns={out})),
            ("min_year => 1999", Filters(min_year=1999)),
        ):
            for user in (1, 4, 9, 13):
                found = by_sql(connection, f"recommend(%s, 5, {arguments})", user)
                given = f"tterec.filters({_named(arguments)})"
                assert_same(found, live(connection, user, 5, given))
                python = recommender.recommend(user, 5, filters=filters)
                assert_same(found, [asdict(one) for one in python])
                served += len(by_sql(connection, f"listed_among(%s, 5, {given})", user)) == 5
        assert (served >= 12) == one_stage


def _named(arguments: str) -> str:
    given = dict(part.split(" => ") for part in arguments.split(", "))
    return ", ".join(given.get(field.name, "NULL") for field in fields(Filters))


def test_a_second_run_makes_only_what_may_be_wrong(shop: Database) -> None:
    assert precompute(shop, top=150).made == 0
    with shop.connect() as connection:
        plant_ratings(connection, 5, [1498], [3.0])
        plant_ratings(connection, 900, [7], [8.0])
        connection.execute("DELETE FROM tterec.ratings WHERE user_id = 8")  # has no profile
    done = precompute(shop, top=150)
    assert done.made == 2
    with shop.connect() as connection:
        assert serves(connection, 5)
        assert serves(connection, 900)
        rows = connection.execute("SELECT FROM tterec.user_lists WHERE user_id = 8").fetchall()
        assert rows == []
        shown = pipeline.models_show(shop, 1)["user_lists"]
        assert shown == done.kept + done.made
        assert str(done).startswith(f"Generation 1: 2 lists made, {done.kept} still right; ")
    assert precompute(shop, top=20).made == done.kept + 2  # of another depth
    with shop.connect() as connection:
        assert serves(connection, 5, 20)
        assert not serves(connection, 5, 21)


def test_repeatable_read_sees_its_own_moment(shop: Database) -> None:
    with shop.connect() as reader, shop.connect() as writer:
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        before = by_sql(reader, "recommend(4)")
        plant_ratings(writer, 4, [before[0]["book_id"]], [9.0])
        writer.commit()
        assert serves(reader, 4)
        assert by_sql(reader, "recommend(4)") == before
        precompute(shop, top=150)
        assert by_sql(reader, "recommend(4)") == before
        assert before[0]["book_id"] not in [
            one["book_id"] for one in by_sql(writer, "recommend(4)")
        ]


def test_a_reader_takes_lists_whatever_its_search_path(shop: Database) -> None:
    with shop.connect() as connection:
        before = by_sql(connection, "recommend(4)")
        connection.execute(
            "CREATE SCHEMA evil; GRANT USAGE ON SCHEMA evil TO PUBLIC;"
            "CREATE FUNCTION evil.no(bigint, bigint) RETURNS boolean"
            " LANGUAGE sql AS 'SELECT false';"
            "CREATE OPERATOR evil.= (leftarg = bigint, rightarg = bigint, function = evil.no);"
            "CREATE FUNCTION evil.count() RETURNS bigint LANGUAGE sql AS 'SELECT 0::bigint'"
        )
        connection.execute(f"SET LOCAL ROLE {READER}".encode())
        connection.execute("SET LOCAL search_path = evil, pg_catalog")
        connection.execute("SET LOCAL transaction_read_only = on")
        assert by_sql(connection, "recommend(4)") == before
        plan = executed(connection, "recommend(4)")
        assert plan
        assert all("never executed" in line for line in plan)


def test_each_generation_has_its_lists(shop: Database) -> None:
    with shop.connect() as connection:
        first = by_sql(connection, "recommend(4)")
        ids = np.arange(1, 1501)
        plant(connection, random_vectors(ids, seed=9), ranker=random_ranker(ids, seed=9))
        connection.commit()
        assert not serves(connection, 4)
        second = by_sql(connection, "recommend(4)")
        assert second != first
        precompute(shop)
        assert serves(connection, 4)
        assert_same(by_sql(connection, "recommend(4)"), second)
        generations.rollback(connection)
        assert serves(connection, 4)
        assert by_sql(connection, "recommend(4)") == first
        plant(connection, random_vectors(ids, seed=10))
        connection.commit()
    with shop.connect(autocommit=True) as connection:
        assert pruning.prune(connection).pruned == [2]
        for name in ("user_lists", "list_sets", "list_changes"):
            rows = connection.execute(f"SELECT DISTINCT generation FROM tterec.{name}".encode())
            assert {row[0] for row in rows} <= {1}, name


def test_what_was_stopped_goes_on(shop: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    with shop.connect() as connection:
        connection.execute("UPDATE tterec.ratings SET rating = 5")
    monkeypatch.setattr(precomputing, "BATCH", 7)
    with pytest.raises(KeyboardInterrupt):
        precompute(shop, top=150, progress=_stop_after(14))
    with shop.connect() as connection:
        served = [user for user in range(1, USERS + 1) if serves(connection, user)]
        stale = user_lists.outdated(connection, 1).to_make
        assert len(served) >= 14
        assert len(stale) > 10
        assert not set(served) & set(stale)
        for user in served:
            assert_same(by_sql(connection, "recommend(%s)", user), live(connection, user, 10))
    assert precompute(shop, top=150).made == len(stale)


def _stop_after(users: int) -> Any:
    def stop(progress: Progress) -> None:
        if progress.stage == "make lists" and progress.done >= users:
            raise KeyboardInterrupt

    return stop


def test_two_at_once_one_says_so(shop: Database) -> None:
    with shop.connect(autocommit=True) as other:
        locks.hold_precompute(other)
        with pytest.raises(errors.Busy, match="another `tterec precompute` is running"):
            precompute(shop)


def test_a_promotion_meanwhile_starts_it_over(
    shop: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with shop.connect() as connection:
        connection.execute("UPDATE tterec.ratings SET rating = 5")
    monkeypatch.setattr(precomputing, "BATCH", 7)
    promoted, said = [], []

    def promote(progress: Progress) -> None:
        said.append(progress.message)
        if progress.stage == "make lists" and progress.done and not promoted:
            with shop.connect() as connection:
                promoted.append(plant(connection, random_vectors(np.arange(1, 1501), seed=3)))

    assert precompute(shop, progress=promote).generation == promoted[0] == 2
    assert "Generation 1 is no longer live; starting over." in said
    with shop.connect() as connection:
        assert serves(connection, 4)


def test_without_a_generation(database: Database) -> None:
    with pytest.raises(errors.NoActiveModel):
        precompute(database)
    with pytest.raises(errors.InvalidArgument, match="--top 0 is not between 1 and 1,000"):
        precompute(database, top=0)


def test_a_list_shorter_than_asked_for_is_that_of_a_small_catalogue(database: Database) -> None:
    """Ties, too: all books are alike."""
    with database.connect() as connection:
        books = plant_books(connection, 30)
        plant_ratings(connection, 1, [3, 4], [8.0, None])
        vectors = random_vectors(books, [2], dim=4)
        vectors.item_embeddings[:] = vectors.item_embeddings[0]
        plant(connection, vectors)
    precompute(database)
    with database.connect() as connection, Recommender(database) as recommender:
        for k in (5, 28, 30, 40):
            for user in (1, 2):
                found = by_sql(connection, "recommend(%s, %s)", user, k)
                assert_same(found, live(connection, user, k))
                assert_same(found, [asdict(one) for one in recommender.recommend(user, k)])
        assert serves(connection, 1, 28)
        assert [one["book_id"] for one in by_sql(connection, "recommend(1, 4)")] == [1, 2, 5, 6]
