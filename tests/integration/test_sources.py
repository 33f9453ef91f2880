"""Reading the sources: what the three queries return, as arrays, or a line that says why not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tterec import errors
from tterec.database.connection import Connection, Database
from tterec.records import Column, FeatureTable, Progress
from tterec.store import kinds, reading, sources
from tterec.store.sources import Queries

FILM_SHOP = """
    CREATE SCHEMA shop;
    CREATE TYPE shop.plan AS ENUM ('free', 'paid');
    CREATE DOMAIN shop.code AS text;
    CREATE TABLE shop.members (
        name text PRIMARY KEY, born date, plan shop.plan, newsletter boolean, spent numeric);
    CREATE TABLE shop.films (
        code shop.code PRIMARY KEY, title varchar(80), minutes int, genres text[], colour boolean,
        premiere date, shown timestamptz, look real[], sound vector(2));
    CREATE TABLE shop.views (member text, film text, stars int, at timestamptz);
    INSERT INTO shop.members VALUES
        ('ann', '1990-01-02', 'paid', true, 12.5), ('bob', NULL, NULL, NULL, NULL);
    INSERT INTO shop.films VALUES
        ('brazil', 'Brazil', 132, '{satire,fantasy}', true, '1985-02-20',
            '1985-02-20 20:00+00', '{1,2,3}', '[4,5]'),
        ('alien', 'Alien', 117, '{horror,NULL}', true, '1979-05-25', NULL, NULL, '[6,7]'),
        ('m', NULL, NULL, NULL, false, NULL, NULL, '{4,5,6}', NULL);
    INSERT INTO shop.views VALUES
        ('ann', 'm', 5, '2024-01-01 00:00+00'), ('ann', 'alien', NULL, NULL),
        ('carl', 'brazil', 3, '2024-01-02 00:00+00');
"""
FILM_QUERIES = Queries(
    interactions="SELECT member AS user_id, film AS item_id, stars * 2 AS rating, at AS rated_at"
    " FROM shop.views",
    users="SELECT name AS user_id, born, plan, newsletter, spent FROM shop.members",
    items="SELECT code AS item_id, title, minutes, genres, colour, premiere, shown, look, sound"
    " FROM shop.films -- every film",
)


def plant_films(connection: Connection) -> None:
    """A small film shop with text ids and a column of every kind."""
    connection.execute(FILM_SHOP)


def column(table: FeatureTable, name: str) -> Column:
    """A feature column by name."""
    return next(one for one in table.columns if one.name == name)


def keys(connection: Connection, kind: str) -> dict[str, int]:
    """The bigint of every text id."""
    query = f"SELECT key, {kind}_id FROM tterec.{kind}_keys"
    return dict(connection.execute(query.encode()).fetchall())


def plant_ratings(connection: Connection) -> None:
    """Two users, three books, three ratings in our own tables."""
    connection.execute(
        """
        INSERT INTO tterec.users VALUES (7, 'lima, peru', 30), (3, NULL, NULL);
        INSERT INTO tterec.books (book_id, isbn, title, year) VALUES
            (10, '0000000010', 'Ten', 1999), (11, '0000000011', NULL, NULL),
            (12, '000000012X', 'Twelve', 2001);
        INSERT INTO tterec.ratings VALUES
            (7, 12, 8.5, '2024-01-01 00:00:01+00'), (7, 10, NULL, NULL),
            (3, 11, 0, '1970-01-01 00:01+00');
        """
    )


def test_our_own_tables_are_read_into_arrays(database: Database) -> None:
    with database.connect(autocommit=True) as connection:
        plant_ratings(connection)
        data = reading.read_sources(connection, sources.default_queries())
    np.testing.assert_array_equal(data.interactions.user_ids, [3, 7, 7])
    np.testing.assert_array_equal(data.interactions.item_ids, [11, 10, 12])
    np.testing.assert_array_equal(data.interactions.ratings, np.float32([0, np.nan, 8.5]))
    np.testing.assert_array_equal(data.interactions.rated_at, [60, np.nan, 1704067201])
    assert data.interactions.ratings.dtype == np.float32
    np.testing.assert_array_equal(data.users.ids, [3, 7])
    np.testing.assert_array_equal(column(data.users, "age").values, [np.nan, 30])
    assert column(data.users, "location").values.tolist() == [None, "lima, peru"]
    np.testing.assert_array_equal(data.items.ids, [10, 11, 12])
    assert [one.name for one in data.items.columns] == ["title", "author", "publisher", "year"]
    assert column(data.items, "title").values.tolist() == ["Ten", None, "Twelve"]
    assert data.kinds["items"]["year"] == "number"
    assert data.dropped == 0


def test_every_kind_of_column_is_read_by_its_type(database: Database) -> None:
    with database.connect(autocommit=True) as connection:
        plant_films(connection)
        data = reading.read_sources(connection, FILM_QUERIES)
        films, members = keys(connection, "item"), keys(connection, "user")
    assert data.kinds["users"] == {
        "user_id": "text",
        "born": "date",
        "plan": "text",
        "newsletter": "boolean",
        "spent": "number",
    }
    assert [films[name] for name in ("alien", "brazil", "m")] == data.items.ids.tolist()
    assert {one.name: one.kind for one in data.items.columns} == {
        "title": "text",
        "minutes": "number",
        "genres": "text[]",
        "colour": "boolean",
        "premiere": "date",
        "shown": "date",
        "look": "vector",
        "sound": "vector",
    }
    assert column(data.items, "title").values.tolist() == ["Alien", "Brazil", None]
    np.testing.assert_array_equal(column(data.items, "minutes").values, [117, 132, np.nan])
    assert column(data.items, "genres").values.tolist() == [["horror"], ["satire", "fantasy"], None]
    np.testing.assert_array_equal(column(data.items, "colour").values, [1, 1, 0])
    np.testing.assert_array_equal(column(data.items, "premiere").values, [3431, 5529, np.nan])
    np.testing.assert_allclose(column(data.items, "shown").values, [np.nan, 5529 + 20 / 24, np.nan])
    np.testing.assert_array_equal(
        column(data.items, "look").values, [[np.nan] * 3, [1, 2, 3], [4, 5, 6]]
    )
    np.testing.assert_array_equal(
        column(data.items, "sound").values, [[6, 7], [4, 5], [np.nan, np.nan]]
    )
    assert column(data.items, "look").values.dtype == np.float32
    assert set(data.interactions.user_ids.tolist()) == {members["ann"], members["carl"]}
    np.testing.assert_array_equal(column(data.users, "spent").values, [12.5, np.nan])


def test_text_ids_keep_their_numbers_and_new_ones_are_added(database: Database) -> None:
    with database.connect(autocommit=True) as connection:
        plant_films(connection)
        reading.read_sources(connection, FILM_QUERIES)
        before = keys(connection, "user")
        connection.execute("INSERT INTO shop.views VALUES ('aaron', 'm', 4, now())")
        reading.read_sources(connection, FILM_QUERIES)
        after = keys(connection, "user")
    assert after.keys() - before.keys() == {"aaron"}
    assert {name: after[name] for name in before} == before


def test_interactions_with_unlisted_items_are_left_out_and_told(database: Database) -> None:
    told: list[Progress] = []
    with database.connect(autocommit=True) as connection:
        plant_ratings(connection)
        queries = replace(
            sources.default_queries(),
            items="SELECT book_id AS item_id, title FROM tterec.books WHERE book_id > 10",
        )
        data = reading.read_sources(connection, queries, told.append)
    assert data.interactions.item_ids.tolist() == [11, 12]
    assert data.dropped == 1
    assert any(one.message and one.message.startswith("1 of 3 inter") for one in told)


def test_a_query_is_read_as_of_one_moment(database: Database) -> None:
    """A rating committed while users and items are being read is not in the snapshot."""

    def interfere(progress: Progress) -> None:
        if progress.stage == "read users":
            with database.connect() as other:
                other.execute("DELETE FROM tterec.ratings")

    with database.connect(autocommit=True) as connection:
        plant_ratings(connection)
        data = reading.read_sources(connection, sources.default_queries(), interfere)
    assert len(data.interactions) == 3


@pytest.mark.parametrize(
    ("name", "query", "complaint"),
    [
        ("interactions", "SELECT 1 AS user_id, 2 AS rating", "returns no column item_id"),
        ("interactions", "SELECT 1 AS user_id, 10 AS item_id", "returns no column rating"),
        (
            "interactions",
            "SELECT 1 AS user_id, 10 AS item_id, '5' AS rating",
            "rating of the interactions query is text; cast it to real",
        ),
        (
            "interactions",
            "SELECT 1 AS user_id, 10 AS item_id, 5 AS rating, 'now' AS rated_at",
            "rated_at of the interactions query is text; cast it to timestamptz",
        ),
        (
            "interactions",
            "SELECT 7 AS user_id, 10 + i AS item_id, 9 + i AS rating FROM generate_series(0, 2) i",
            "1 ratings of the interactions query are outside 0 to 10, such as 11 (user_id 7, "
            "item_id 12)",
        ),
        (
            "interactions",
            "SELECT 7 AS user_id, 10 AS item_id, 'NaN'::real AS rating",
            "outside 0 to 10, such as NaN",
        ),
        (
            "interactions",
            "SELECT 7 AS user_id, 10 AS item_id, 1e300::float8 AS rating",
            "outside 0 to 10, such as 1e+300",
        ),
        (
            "interactions",
            "SELECT 7 AS user_id, NULL::int AS item_id, 1 AS rating",
            "item_id is NULL in 1 rows of the interactions query",
        ),
        (
            "interactions",
            "SELECT 7 AS user_id, 10 AS item_id, i AS rating FROM generate_series(1, 3) i",
            "2 rows of the interactions query repeat a user and item, such as user_id 7, "
            "item_id 10; make them one: SELECT user_id, item_id, max(rating)",
        ),
        (
            "interactions",
            "SELECT 7.5 AS user_id, 10 AS item_id, 1 AS rating",
            "user_id of the interactions query is numeric; cast it to bigint or text",
        ),
        (
            "interactions",
            "SELECT 'seven' AS user_id, 10 AS item_id, 1 AS rating",
            "user_id is text in the interactions query and bigint in the users query",
        ),
        ("interactions", "SELECT * FROM ratigns", 'relation "ratigns" does not exist'),
        ("interactions", "SELECT 1; SELECT 2", "the interactions query is refused by Postgres"),
        (
            "interactions",
            "SELECT 7 AS user_id, 10 AS item_id, 1 / (i - 1) AS rating FROM generate_series(1,1) i",
            "the interactions query is refused by Postgres: division by zero",
        ),
        (
            "interactions",
            "SELECT user_id, book_id AS item_id, rating FROM tterec.ratings WHERE false",
            "there are no interactions to learn from",
        ),
        (
            "interactions",
            "SELECT 7 AS user_id, 99 AS item_id, NULL::real AS rating",
            "none of the 1 interactions is with an item of the items query",
        ),
        ("users", "SELECT age FROM tterec.users", "the users query returns no column user_id"),
        (
            "users",
            "SELECT 7 AS user_id, 1 AS age, 2 AS age",
            "the users query returns the column age twice",
        ),
        (
            "items",
            "SELECT 10 AS item_id, '{}'::jsonb AS tags",
            "items.tags is jsonb, of which no feature is made; cast it in the items query",
        ),
        ("items", "SELECT 10 AS item_id, '{1}'::int[] AS tags", "items.tags is integer[]"),
        (
            "items",
            "SELECT 10 AS item_id, 1 AS x FROM generate_series(1, 2)",
            "1 rows of the items query repeat an id, such as item_id 10",
        ),
        ("items", "SELECT NULL::int AS item_id, 1 AS x", "item_id is NULL in the items query"),
        (
            "items",
            "SELECT i AS item_id, array_fill(1.5::real, ARRAY[i]) AS look"
            " FROM generate_series(1, 2) i",
            "items.look holds vectors of different widths (1, 2)",
        ),
        (
            "items",
            "SELECT 10 AS item_id, 'infinity'::float8 AS price",
            "items.price holds infinite values; make them NULL",
        ),
        (
            "items",
            "SELECT 10 AS item_id, ARRAY[1, NULL]::real[] AS look",
            "the items query is refused by Postgres",
        ),
    ],
)
def test_a_query_that_cannot_be_used_is_refused_with_the_mend(
    database: Database, name: str, query: str, complaint: str
) -> None:
    with database.connect(autocommit=True) as connection:
        plant_ratings(connection)
        queries = replace(sources.default_queries(), **{name: query})
        with pytest.raises(errors.SourceError) as caught:
            reading.read_sources(connection, queries)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_empty_shop_is_told_to_load(database: Database) -> None:
    with (
        database.connect(autocommit=True) as connection,
        pytest.raises(errors.SourceError, match="load some first: tterec load"),
    ):
        reading.read_sources(connection, sources.default_queries())


def test_a_text_id_is_shown_as_its_owner_knows_it(database: Database) -> None:
    with database.connect(autocommit=True) as connection:
        plant_films(connection)
        connection.execute("UPDATE shop.views SET stars = 6 WHERE member = 'carl'")
        with pytest.raises(errors.SourceError, match=r"such as 12 \(user_id 'carl'"):
            reading.read_sources(connection, FILM_QUERIES)


def test_a_column_whose_kind_changed_is_named() -> None:
    before = {"items": {"year": "number", "title": "text"}, "users": {}}
    kinds.check_kinds({"items": {"year": "number", "cover": "vector"}}, before, 3)
    with pytest.raises(errors.SourceError) as caught:
        kinds.check_kinds({"items": {"year": "text"}}, before, 3)
    assert str(caught.value) == (
        "items.year was number in generation 3 and is text now; cast it in the items query, or "
        "accept it: tterec train --accept-new-types"
    )


def test_the_views_follow_the_queries_and_readers_may_read_them(database: Database) -> None:
    with database.connect(autocommit=True) as connection:
        plant_films(connection)
        reading.read_sources(connection, FILM_QUERIES)
        with connection.transaction():
            sources.set_sources(connection, FILM_QUERIES)
        films = connection.execute("SELECT isbn, title FROM tterec.catalogue").fetchall()
        rows = connection.execute("SELECT rating FROM tterec.interactions ORDER BY 1").fetchall()
        assert sources.current_queries(connection) == FILM_QUERIES
        assert sources.chosen(connection, {}) == FILM_QUERIES
        readable = connection.execute(
            "SELECT bool_and(has_table_privilege('tterec_reader', v, 'SELECT'))"
            " FROM unnest(%s::text[]) v",
            (["tterec.catalogue", "tterec.interactions", "tterec.source_items"],),
        ).fetchone()
    assert sorted(films, key=str) == [("alien", "Alien"), ("brazil", "Brazil"), ("m", None)]
    assert rows == [(6,), (10,), (None,)]
    assert readable == (True,)


def test_views_that_others_built_upon_are_not_torn_down(database: Database) -> None:
    with database.connect(autocommit=True) as connection:
        plant_films(connection)
        connection.execute("CREATE VIEW shop.mine AS SELECT * FROM tterec.source_items")
        with pytest.raises(errors.SourceError, match=r"view shop\.mine depends on"):
            sources.set_sources(connection, FILM_QUERIES)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "No such file"),
        (b"", "holds no query"),
        (b"-- nothing\n/* at\nall */ ;\n", "holds no query"),
        (b"SELECT '\xff'", "not UTF-8"),
    ],
)
def test_a_file_without_a_query_is_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes | None, complaint: str
) -> None:
    path = tmp_path_factory.mktemp("sql") / "items.sql"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(errors.SourceError, match=complaint):
        sources.read_query(path, "items")


def test_a_query_may_begin_with_the_mark_that_windows_puts_before_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "items.sql"
    path.write_text("SELECT 1 AS item_id\n", encoding="utf-8-sig")
    assert sources.read_query(path, "items") == "SELECT 1 AS item_id"
