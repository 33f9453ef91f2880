"""A shop of another shape, from three queries: trained, judged, served, and left again."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import psycopg
import pytest

from tests.integration import record_club
from tests.integration.test_surfaces import assert_same, by_sql
from tests.integration.test_train import SHOP, rows
from tterec import Recommender, errors, evaluating, pipeline
from tterec.config import TrainingConfig
from tterec.database.connection import Connection, Database
from tterec.database.roles import READER
from tterec.judging import Protocol
from tterec.store import registry

CONFIG = TrainingConfig(dim=16, epochs=6, batch_size=128, uniform_negatives=16, threads=1)
FAST = replace(CONFIG, dim=8, epochs=1)


@pytest.fixture
def club(database: Database) -> Database:
    """A database with the record club's tables."""
    with database.connect() as connection:
        record_club.plant(connection)
    return database


def listed(connection: Connection, user: str, k: int = 10) -> list[tuple[object, ...]]:
    """A list by the text overload: isbn, source."""
    return rows(connection, "SELECT isbn, source FROM tterec.recommend(%s::text, %s)", user, k)


def played(connection: Connection, user: str) -> set[object]:
    """The records that a member has played."""
    return {r for (r,) in rows(connection, "SELECT code FROM club.plays WHERE handle = %s", user)}


def share_of(genre: str, found: list[object]) -> float:
    """How much of a list is of a genre."""
    genres = record_club.genres()
    return sum(genres[str(one)] == genre for one in found) / len(found)


def test_every_member_gets_their_own_genre_by_every_surface(club: Database, tmp_path: Path) -> None:
    trained = pipeline.train(club, CONFIG, record_club.write_queries(tmp_path))
    assert trained.counts["users"] == record_club.MEMBERS
    assert trained.counts["items"] == record_club.RECORDS
    assert trained.counts["dropped_interactions"] == 1
    with Recommender(club) as recommender, club.connect() as connection:
        kinds = registry.show(connection, 1)["sources"]["kinds"]
        assert set(kinds["users"].values()) == set(kinds["items"].values()) == {
            "number", "text", "text[]", "boolean", "date", "vector",
        }  # fmt: skip
        everybody = dict(recommender.recommend_many(None, 10))
        assert len(everybody) == record_club.MEMBERS + 1  # and the guest
        shares = []
        for number in range(record_club.MEMBERS):
            user = record_club.member(number)
            found = by_sql(connection, "recommend(%s::text)", user)
            isbns = [one["isbn"] for one in found]
            assert len(found) == 10
            assert not played(connection, user) & set(isbns)
            assert_same(found, [asdict(one) for one in everybody[user]])
            shares.append(share_of(record_club.genre(number), isbns))
        assert sum(shares) / len(shares) > 0.85
        for user in record_club.ODD_MEMBERS:
            theirs = [asdict(one) for one in recommender.recommend(user)]
            assert_same(by_sql(connection, "recommend(%s::text)", user), theirs)
        for number, code in enumerate(record_club.ODD_RECORDS):
            alike = by_sql(connection, "similar_books(%s, 5)", code)
            assert share_of(record_club.genre(number), [one["isbn"] for one in alike]) >= 0.8
            assert_same(alike, [asdict(one) for one in recommender.similar(code, 5)])
            after = by_sql(connection, "recommend_for_books(ARRAY[%s], ARRAY[9], 5)", code)
            assert_same(
                after, [asdict(one) for one in recommender.recommend_for_books([code], [9], 5)]
            )
        popular = by_sql(connection, "popular_books(100)")
        assert {one["isbn"] for one in popular} == set(record_club.genres())


def test_digits_are_a_name_here_and_not_a_number(club: Database, tmp_path: Path) -> None:
    pipeline.train(club, FAST, record_club.write_queries(tmp_path))
    with Recommender(club) as recommender, club.connect() as connection:
        assert played(connection, "123")
        assert [source for _, source in listed(connection, "123", 1)] == ["history"]
        # Somebody's number among tterec's keys, and nobody's name.
        assert [source for _, source in listed(connection, "5", 1)] == ["popular"]
        assert recommender.recommend("5", 1)[0].source == "popular"


def test_a_play_committed_now_counts_now(club: Database, tmp_path: Path) -> None:
    pipeline.train(club, CONFIG, record_club.write_queries(tmp_path))
    user = record_club.member(0)
    assert record_club.genre(0) == "jazz"
    with Recommender(club) as recommender, club.connect(autocommit=True) as connection:
        before = listed(connection, user)
        metal = [code for code, genre in record_club.genres().items() if genre == "metal"]
        for code in [before[0][0], *metal[:20]]:
            connection.execute(
                "INSERT INTO club.plays VALUES (%s, %s, 5, now()) ON CONFLICT DO NOTHING",
                (user, code),
            )
        after = [isbn for isbn, _ in listed(connection, user)]
        assert before[0][0] not in after
        assert_same(
            by_sql(connection, "recommend(%s::text)", user),
            [asdict(one) for one in recommender.recommend(user)],
        )
        assert share_of("metal", after) > share_of("metal", [isbn for isbn, _ in before])


@pytest.mark.parametrize("name", ["nova", "7", "нова 'x'", ""])
def test_a_member_who_came_after_training_has_a_list_at_once(
    club: Database, tmp_path: Path, name: str
) -> None:
    with club.connect() as connection:
        for table in ("plays", "members"):
            query = f"DELETE FROM club.{table} WHERE handle = %s"
            connection.execute(query.encode(), (name,))
    pipeline.train(club, FAST, record_club.write_queries(tmp_path))
    with Recommender(club) as recommender, club.connect(autocommit=True) as connection:
        assert {source for _, source in listed(connection, name)} == {"popular"}
        assert rows(connection, "SELECT tterec.user_vector(%s::text)", name) == [(None,)]
        for code in (record_club.record(2), record_club.record(4)):
            connection.execute("INSERT INTO club.plays VALUES (%s, %s, 5, now())", (name, code))
        keys = "SELECT count(*) FROM tterec.user_keys WHERE key = %s"
        connection.execute("SET default_transaction_read_only = on")
        found = by_sql(connection, "recommend(%s::text)", name)
        assert {one["source"] for one in found} == {"history"}
        assert not played(connection, name) & {one["isbn"] for one in found}
        again = by_sql(connection, "recommend(%s::text, 90, false)", name)
        assert played(connection, name) <= {one["isbn"] for one in again}
        assert_same(found, [asdict(one) for one in recommender.recommend(name)])
        together = dict(recommender.recommend_many([name, record_club.member(3)]))
        assert_same(found, [asdict(one) for one in together[name]])
        vector = rows(connection, "SELECT tterec.user_vector(%s::text) IS NOT NULL", name)
        assert vector == [(True,)]
        assert rows(connection, keys, name) == [(0,)]
        connection.execute("SET default_transaction_read_only = off")
        # Once training has numbered them, nothing changes but that they have a profile.
        pipeline.train(club, FAST)
        assert rows(connection, keys, name) == [(1,)]
        assert {source for _, source in listed(connection, name)} == {"history"}


def test_the_books_come_back_with_their_generation(club: Database, tmp_path: Path) -> None:
    with club.connect() as connection:
        connection.execute(SHOP)
    pipeline.train(club, FAST)
    files = record_club.write_queries(tmp_path)
    pipeline.train(club, FAST, files, accept_new_types=True)
    with Recommender(club) as recommender, club.connect(autocommit=True) as connection:

        def book_list() -> list[dict[str, object]]:
            found = by_sql(connection, "recommend(7, 5)")
            assert_same(found, by_sql(connection, "recommend('7'::text, 5)"))
            assert_same(found, [asdict(one) for one in recommender.recommend("7", 5)])
            assert_same(found, [asdict(one) for one in dict(recommender.recommend_many([7], 5))[7]])
            return found

        club_list = listed(connection, "o'brien", 5)
        assert pipeline.models_rollback(club) == 1
        books = book_list()
        assert {one["source"] for one in books} == {"history"}
        assert {str(one["title"]).split()[0] for one in books} == {"Book"}
        assert len(rows(connection, "SELECT * FROM tterec.popular_books(100)")) == 60
        connection.execute(
            "INSERT INTO tterec.ratings (user_id, book_id, rating) VALUES (7, %s, 9)",
            (books[0]["book_id"],),
        )
        assert books[0]["isbn"] not in {one["isbn"] for one in book_list()}
        assert recommender.recommend("o'brien", 1)[0].source == "popular"
        assert listed(connection, "o'brien", 1)[0][1] == "popular"
        # and the club again
        assert pipeline.models_rollback(club) == 2
        assert listed(connection, "o'brien", 5) == club_list
        # The next training is the club's, whose queries are live.
        assert pipeline.train(club, FAST).counts["items"] == record_club.RECORDS


@pytest.mark.parametrize("split", ["random", "temporal", "unseen-users"])
def test_lists_are_judged_on_the_clubs_own_records(
    club: Database, tmp_path: Path, split: str
) -> None:
    pipeline.train(club, CONFIG, record_club.write_queries(tmp_path))
    report = evaluating.evaluate(club, Protocol(split=split, k=10))
    ndcg = {name: found.overall["ndcg"].value for name, found in report.models.items()}
    assert ndcg["tterec"] > 1.2 * ndcg["popularity"]


@pytest.mark.parametrize(
    ("name", "column", "complaint"),
    [
        ("users", "'{}'::jsonb AS x", "users.x is jsonb, of which no feature is made; cast it"),
        ("users", "interval '1 day' AS x", "users.x is interval"),
        ("items", "int4range(1, 2) AS x", "items.x is int4range"),
        ("items", "ARRAY[1, 2] AS x", "items.x is integer[]"),
        ("items", "'\\x00'::bytea AS x", "items.x is bytea"),
        ("items", "time '10:00' AS x", "items.x is time without time zone"),
        ("items", "ARRAY[added] AS x", "items.x is timestamp without time zone[]"),
    ],
)
def test_a_column_of_no_supported_type_is_named(
    club: Database, tmp_path: Path, name: str, column: str, complaint: str
) -> None:
    changed = record_club.QUERIES[name].replace("SELECT ", f"SELECT {column}, ", 1)
    files = record_club.write_queries(tmp_path, record_club.QUERIES | {name: changed})
    with pytest.raises(errors.SourceError) as caught:
        pipeline.train(club, FAST, files)
    assert complaint in str(caught.value)
    assert pipeline.models_list(club) == []


@pytest.mark.parametrize(
    ("name", "edit", "complaint"),
    [
        ("interactions", ("handle AS", "id_of(handle) AS"), "function id_of"),
        ("interactions", ("handle AS", "'free'::club.plan AS"), "user_id of the interactions query"
         " is club.plan; cast it to bigint or text"),
        ("interactions", ("stars * 2", "stars * 3"), "ratings of the interactions query are out"),
        ("users", ("handle AS", "age AS"), "user_id is text in the interactions query and small"),
        ("items", ("code AS", "NULL::text AS"), "item_id is NULL in the items query"),
    ],
)  # fmt: skip
def test_an_unusable_id_or_rating_is_named(
    club: Database, tmp_path: Path, name: str, edit: tuple[str, str], complaint: str
) -> None:
    changed = record_club.QUERIES[name].replace(*edit)
    files = record_club.write_queries(tmp_path, record_club.QUERIES | {name: changed})
    with pytest.raises(errors.SourceError) as caught:
        pipeline.train(club, FAST, files)
    assert complaint in str(caught.value)


def test_a_type_that_changed_in_the_clubs_own_table_is_named(
    club: Database, tmp_path: Path
) -> None:
    """As the README has it: the views are dropped, the table is altered, the views come back."""
    pipeline.train(club, FAST, record_club.write_queries(tmp_path))
    alter = "ALTER TABLE club.records ALTER COLUMN price TYPE text"
    with club.connect(autocommit=True) as connection:
        with pytest.raises(psycopg.errors.FeatureNotSupported, match="used by a view"):
            connection.execute(alter.encode())
        before = listed(connection, "123")
        connection.execute("DROP VIEW tterec.source_items CASCADE")
        connection.execute(alter.encode())
        pipeline.upgrade(club)
        assert listed(connection, "123") == before
    with pytest.raises(errors.SourceError) as caught:
        pipeline.train(club, FAST)
    assert str(caught.value) == (
        "items.price was number in generation 1 and is text now; cast it in the items query, or "
        "accept it: tterec train --accept-new-types"
    )
    cast = record_club.QUERIES["items"].replace("price,", "price::numeric AS price,")
    assert pipeline.train(club, FAST, record_club.write_queries(tmp_path, {"items": cast})).active
    assert pipeline.models_show(club, 2)["sources"]["kinds"]["items"]["price"] == "number"


def test_who_may_only_ask_needs_no_right_on_the_clubs_tables(
    club: Database, tmp_path: Path
) -> None:
    pipeline.train(club, FAST, record_club.write_queries(tmp_path))
    with club.connect(autocommit=True) as connection:
        connection.execute("INSERT INTO club.plays VALUES ('nova', 'a,b', 5, now())")
        connection.execute(f"SET ROLE {READER}".encode())
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SELECT FROM club.plays")
        for user in ("o'brien", "nova"):
            assert {source for _, source in listed(connection, user)} == {"history"}


def test_a_column_that_is_null_throughout_teaches_nothing_and_does_no_harm(
    club: Database, tmp_path: Path
) -> None:
    with club.connect() as connection:
        connection.execute(
            "UPDATE club.members SET spent = NULL, about = NULL, city = NULL, instruments = NULL,"
            " newsletter = NULL, born = NULL, taste = NULL, voice = NULL"
        )
        connection.execute("UPDATE club.plays SET stars = NULL, at = NULL")
    assert pipeline.train(club, FAST, record_club.write_queries(tmp_path)).active
    with club.connect() as connection:
        assert {source for _, source in listed(connection, "123")} == {"history"}
