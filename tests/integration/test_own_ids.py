"""Ids of every type that a shop may have: each is served through the shop's own index."""

from __future__ import annotations

import uuid
from dataclasses import asdict, dataclass, replace
from itertools import product

import psycopg
import pytest

from tests.integration.generations import plant, random_ranker, random_vectors
from tests.integration.test_surfaces import assert_same, by_sql
from tests.integration.test_train import rows
from tterec import Filters, Recommender, Rules, errors
from tterec.database.connection import Connection, Database
from tterec.store import reading, sources
from tterec.store.sources import Queries

USERS, ITEMS = 2000, 3000
QUERIES = Queries(
    interactions="SELECT who AS user_id, what AS item_id, stars AS rating FROM shop.met",
    users="SELECT who AS user_id FROM shop.people",
    items="SELECT what AS item_id, title FROM shop.things",
)


@dataclass(frozen=True)
class IdType:
    """A SQL type of ids, and how an id is made of an integer."""

    name: str
    made: str
    is_text: bool = True

    def of(self, number: str) -> str:
        """SQL: the id of a number."""
        return self.made.format(number)


UUID = "(to_char({}, 'FM00000000') || '-0000-4000-8000-00000000beef')::uuid"
TYPES = [
    IdType("text", "'name ' || {}"),
    IdType("varchar(20)", "'name ' || {}"),
    IdType("char(12)", "'name ' || {}"),
    IdType("uuid", UUID),
    IdType("shop.label", "'name ' || {}"),
    IdType("shop.tag", UUID),
    IdType("shop.nested", UUID),
    IdType("smallint", "({})", is_text=False),
    IdType("int", "({})", is_text=False),
    IdType("bigint", "({})", is_text=False),
    IdType("shop.number", "({})", is_text=False),
]


def plant_shop(connection: Connection, ids: IdType) -> None:
    """People who met ten things each, and a live generation of made-up vectors."""
    connection.execute(
        f"""
        CREATE SCHEMA shop;
        CREATE DOMAIN shop.label AS text;
        CREATE DOMAIN shop.tag AS uuid;
        CREATE DOMAIN shop.nested AS shop.tag;
        CREATE DOMAIN shop.number AS int CHECK (VALUE > 0);
        CREATE TABLE shop.people (who {ids.name} PRIMARY KEY);
        CREATE TABLE shop.things (what {ids.name} PRIMARY KEY, title text);
        CREATE TABLE shop.met (
            who {ids.name}, what {ids.name}, stars real, PRIMARY KEY (who, what));
        INSERT INTO shop.people SELECT {ids.of("n")} FROM generate_series(1, {USERS}) n;
        INSERT INTO shop.things
            SELECT {ids.of("n")}, 'Thing ' || n FROM generate_series(1, {ITEMS}) n;
        INSERT INTO shop.met
            SELECT {ids.of("u")}, {ids.of(f"(u * 31 + i * 97) % {ITEMS} + 1")}, 1 + u % 10
            FROM generate_series(1, {USERS}) u, generate_series(1, 10) i;
        ANALYZE shop.people, shop.things, shop.met;
        """.encode()
    )
    data = reading.read_sources(connection, QUERIES)
    with connection.transaction():
        sources.set_sources(connection, QUERIES)
    items = data.items.ids
    assert len(items) == ITEMS
    plant(
        connection,
        random_vectors(items, data.users.ids[::2].tolist(), dim=8),
        ranker=random_ranker(items),
    )
    connection.execute("ANALYZE tterec.user_keys, tterec.item_keys")


def plan(connection: Connection, query: str, *parameters: object) -> str:
    """What Postgres would do."""
    return "\n".join(str(line) for (line,) in rows(connection, f"EXPLAIN {query}", *parameters))


@pytest.mark.parametrize("ids", TYPES, ids=lambda one: one.name)
def test_ids_of_each_type_are_served_by_the_shops_own_index(
    database: Database, ids: IdType
) -> None:
    with Recommender(database) as recommender, database.connect(autocommit=True) as connection:
        plant_shop(connection, ids)
        who = rows(connection, "SELECT who::text FROM shop.met WHERE stars = 7 LIMIT 3")
        number = rows(connection, "SELECT tterec.user_id_of(%s)", who[0][0])[0][0]
        assert number is not None
        for query, given in [
            ("SELECT * FROM tterec.interactions WHERE user_id = %s", number),
            ("SELECT * FROM tterec.interactions WHERE user_id = ANY (%s::bigint[])", [number]),
            ("SELECT * FROM tterec.user_interactions WHERE user_id = %s", number),
            ("SELECT * FROM tterec.catalogue WHERE item_id = %s", 5),
            ("SELECT * FROM tterec.catalogue WHERE item_id = ANY (%s::bigint[])", [5, 6]),
        ]:
            found = plan(connection, query, given)
            assert "Seq Scan on met" not in found, found
            assert "Seq Scan on things" not in found, found
        for (name,) in who:
            found = by_sql(connection, "recommend(%s::text)", name)
            assert {one["source"] for one in found} == {"history"}
            theirs = [asdict(one) for one in recommender.recommend(str(name))]
            assert_same(found, theirs)
            numbered = "recommend(tterec.user_id_of(%s::text))"
            assert_same(found, by_sql(connection, numbered, name))
            assert_same(found, [asdict(x) for x in dict(recommender.recommend_many([name]))[name]])
        everybody = dict(recommender.recommend_many())
        assert len(everybody) == USERS
        for (name,) in who:
            single = recommender.recommend(str(name))
            assert everybody[str(name) if ids.is_text else int(name)] == single
        if ids.name == "uuid":
            assert recommender.recommend(uuid.UUID(who[0][0])) == recommender.recommend(who[0][0])
        code = str(found[0]["isbn"])
        assert_same(
            by_sql(connection, "similar_books(%s)", code),
            [asdict(one) for one in recommender.similar(code)],
        )
        assert_same(
            by_sql(connection, "recommend_for_books(ARRAY[%s])", code),
            [asdict(one) for one in recommender.recommend_for_books([code])],
        )
        assert_same(
            by_sql(connection, "popular_books(7)"), [asdict(x) for x in recommender.popular(7)]
        )
        newcomer = rows(connection, f"SELECT ({ids.of('9999')})::text")[0][0]
        connection.execute(
            f"INSERT INTO shop.met SELECT {ids.of('9999')}, {ids.of('5')}, 9".encode()
        )
        filtered = "popular_books(7, min_ratings => 1)"
        popular = recommender.popular(7, filters=Filters(min_ratings=1))
        assert_same(by_sql(connection, filtered), [asdict(x) for x in popular])
        found = by_sql(connection, "recommend(%s::text)", newcomer)
        assert {one["source"] for one in found} == {"history"}
        assert_same(found, [asdict(one) for one in recommender.recommend(str(newcomer))])
        if ids.is_text:
            by_name = f"SELECT * FROM tterec.named_interactions WHERE name = %s::{ids.name}"
            assert "Seq Scan on met" not in plan(connection, by_name, newcomer)
            assert rows(connection, "SELECT tterec.user_id_of(%s)", newcomer) == [(None,)]
        for nobody in ("nobody", "", "{}", "0" * 40):
            assert by_sql(connection, "recommend(%s::text, 1)", nobody)[0]["source"] == "popular"
            assert recommender.recommend(nobody, 1)[0].source == "popular"


@pytest.mark.parametrize("ids", [TYPES[0], TYPES[3], TYPES[9]], ids=lambda one: one.name)
def test_a_query_that_groups_is_asked_for_one_user_not_for_all(
    database: Database, ids: IdType
) -> None:
    with Recommender(database) as recommender, database.connect(autocommit=True) as connection:
        plant_shop(connection, ids)
        name = str(rows(connection, "SELECT who::text FROM shop.met WHERE stars = 7")[0][0])
        number = int(rows(connection, "SELECT tterec.user_id_of(%s)", name)[0][0])
        wanted = recommender.recommend(name)
        grouped = (
            "SELECT who AS user_id, what AS item_id, max(stars) AS rating FROM shop.met"
            " GROUP BY who, what"
        )
        with connection.transaction():
            sources.set_sources(connection, replace(QUERIES, interactions=grouped))
        looked_up = "SELECT * FROM tterec.user_interactions WHERE user_id = %s"
        explained = plan(connection, looked_up, number)
        assert "Seq Scan on met" not in explained, explained
        assert sorted(rows(connection, looked_up, number)) == sorted(
            rows(connection, looked_up.replace("user_interactions", "interactions"), number)
        )
        assert recommender.recommend(name) == wanted
        found = by_sql(connection, "recommend(%s::bigint)", number)
        assert_same(found, [asdict(one) for one in wanted])
        # What is read of the table when a list is made, and when a list made beforehand is read.
        for call in ("history_of(%s)", "history_digest(%s)", "recommend(%s)"):
            before = _rows_read(connection)
            rows(connection, f"SELECT * FROM tterec.{call}", number)
            assert _rows_read(connection) - before < USERS, call


def _rows_read(connection: Connection) -> int:
    """How many rows of shop.met this session has read so far."""
    connection.execute("SELECT pg_stat_force_next_flush()")
    return int(
        rows(
            connection,
            "SELECT seq_tup_read + coalesce(idx_tup_fetch, 0) FROM pg_stat_user_tables"
            " WHERE relid = 'shop.met'::regclass",
        )[0][0]
    )


SPELLINGS = {
    "uuid": [str.upper, "{{{}}}".format, lambda one: one.replace("-", "").upper()],
    "shop.nested": [str.upper],
    "char(12)": [lambda one: one.ljust(12)],
}


@pytest.mark.parametrize("name", SPELLINGS)
def test_an_id_is_the_same_in_every_spelling_of_its_type(database: Database, name: str) -> None:
    (ids,) = (one for one in TYPES if one.name == name)
    with Recommender(database) as recommender, database.connect(autocommit=True) as connection:
        plant_shop(connection, ids)
        connection.execute(
            f"INSERT INTO shop.met SELECT {ids.of('9999')}, {ids.of('5')}, 9".encode()
        )
        known, newcomer, thing, other = (
            str(rows(connection, f"SELECT ({ids.of(number)})::text")[0][0])
            for number in ("77", "9999", "5", "6")
        )
        for spell in SPELLINGS[name]:
            for user in (known, newcomer):
                wanted, given = recommender.recommend(user), spell(user)
                assert given != user
                assert {one.source for one in wanted} == {"history"}
                assert recommender.recommend(given) == wanted
                assert dict(recommender.recommend_many([given, given, user])) == {
                    given: wanted,
                    user: wanted,
                }
                assert_same(
                    by_sql(connection, "recommend(%s::text)", given), [asdict(x) for x in wanted]
                )
                assert recommender.score(given, spell(thing)) == recommender.score(user, thing)
            assert rows(connection, "SELECT tterec.user_id_of(%s)", spell(known)) == rows(
                connection, "SELECT tterec.user_id_of(%s)", known
            )
            for call, given_isbn in (
                ("similar_books(%s)", thing),
                ("recommend_for_books(ARRAY[%s])", thing),
                ("explain(%s, %s)", thing),
                ("popular_books(5, only_isbns => ARRAY[%s])", thing),
                ("popular_books(5, without_isbns => ARRAY[%s])", thing),
            ):
                of = (known, given_isbn) if call.startswith("explain") else (given_isbn,)
                found = rows(connection, f"SELECT * FROM tterec.{call}", *of)
                assert found, call
                spelled = [spell(one) for one in of]
                assert rows(connection, f"SELECT * FROM tterec.{call}", *spelled) == found, call
            assert recommender.similar(spell(thing)) == recommender.similar(thing)
            assert recommender.recommend_for_books(
                [spell(thing), other], [3, 9]
            ) == recommender.recommend_for_books([thing, other], [3, 9])
            for make in (
                lambda isbns: {"filters": Filters(only_isbns=isbns)},
                lambda isbns: {"filters": Filters(without_isbns=isbns)},
                lambda isbns: {"rules": Rules(available=isbns)},
                lambda isbns: {"rules": Rules(unavailable=isbns)},
            ):
                theirs = [one.isbn for one in recommender.recommend(known, 3)]
                wanted = recommender.recommend(known, 3, **make(theirs))
                spelled = [spell(one) for one in theirs]
                assert recommender.recommend(known, 3, **make(spelled)) == wanted
                (many,) = recommender.recommend_many([known], 3, **make(spelled))
                assert many[1] == wanted


@pytest.mark.parametrize("ids", TYPES, ids=lambda one: one.name)
def test_who_has_met_more_than_counts_is_known_by_all_that_they_met(
    database: Database, ids: IdType
) -> None:
    with Recommender(database) as recommender, database.connect(autocommit=True) as connection:
        plant_shop(connection, ids)
        newcomer = f"SELECT {ids.of('9999')}, {ids.of('i')}, i % 3 FROM generate_series(30, 39) i"
        connection.execute(f"INSERT INTO shop.met {newcomer}".encode())
        told = (
            "SELECT i.item_id, i.rating FROM tterec.named_interactions i WHERE i.name::text = %s"
            " ORDER BY i.rating DESC, i.item_id"
        )
        for counted, number in product((4, 10, 11), ("77", "9999")):
            connection.execute("UPDATE tterec.models SET max_history = %s", (counted,))
            name = str(rows(connection, f"SELECT ({ids.of(number)})::text")[0][0])
            everything = rows(connection, told, name)
            assert len(everything) == 10
            met = sorted(item for item, _ in everything)
            items, ratings = map(list, zip(*everything[:counted], strict=True))
            by_name = "SELECT items, ratings, met FROM tterec.history_of(%s::text)"
            assert rows(connection, by_name, name) == [(items, ratings, met)]
            if number == "77" or not ids.is_text:
                by_number = by_name.replace("%s::text", "tterec.user_id_of(%s)")
                assert rows(connection, by_number, name) == [(items, ratings, met)]
            found = recommender.recommend(name, ITEMS)
            assert {one.source for one in found} == {"history"}
            assert not {one.book_id for one in found} & set(met)
            assert_same(
                by_sql(connection, "recommend(%s::text, %s)", name, ITEMS),
                [asdict(one) for one in found],
            )


def test_ids_that_are_texts_are_others_in_another_spelling(database: Database) -> None:
    with Recommender(database) as recommender, database.connect(autocommit=True) as connection:
        plant_shop(connection, TYPES[0])
        known, other = "name 77", "NAME 77"
        assert recommender.recommend(known, 1)[0].source == "history"
        assert recommender.recommend(other, 1)[0].source == "popular"
        assert by_sql(connection, "recommend(%s::text, 1)", other)[0]["source"] == "popular"
        with pytest.raises(errors.UnknownBook):
            recommender.similar("NAME 5")


def test_sources_of_another_type_are_served_in_a_session_that_is_already_open(
    database: Database,
) -> None:
    """Functions keep plans; those of the old types must not be used with the new."""
    with database.connect(autocommit=True) as connection, database.connect() as other:
        plant_shop(connection, TYPES[-3])
        calls = ["recommend(7)", "recommend('7'::text)", "recommend_for_books(ARRAY['8'])",
                 "similar_books('8')", "popular_books()"]  # fmt: skip
        before = {call: by_sql(other, call) for _ in range(7) for call in calls}
        other.commit()
        for type_ in ("bigint", "int"):
            connection.execute("DROP VIEW tterec.source_users, tterec.source_interactions,"
                               " tterec.source_items CASCADE")  # fmt: skip
            for table, column in (("met", "who"), ("met", "what"), ("things", "what")):
                connection.execute(f"ALTER TABLE shop.{table} ALTER {column} TYPE {type_}".encode())
            with connection.transaction():
                sources.set_sources(connection, QUERIES)
            try:
                assert {call: by_sql(other, call) for call in calls} == before
            except psycopg.Error as error:
                pytest.fail(f"{type_}: {error}")
            other.commit()
