"""Migrations, the schema guard, and what `db check` compares."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest
from alembic import command
from alembic.script import ScriptDirectory

from tterec import errors, pipeline
from tterec.database import functions, pgvector, schema
from tterec.database.connection import Connection, Database


def exists(connection: Connection, name: str) -> bool:
    row = connection.execute("SELECT to_regnamespace(%s) IS NOT NULL", (name,)).fetchone()
    return row == (True,)


def test_head_is_the_newest_migration_file() -> None:
    script = ScriptDirectory.from_config(schema._alembic_config())
    assert script.get_current_head() == schema.HEAD


def test_an_upgraded_database_has_exactly_what_is_described(database: Database) -> None:
    assert schema.differences(database) == []
    with database.connect() as connection:
        assert schema.current(connection) == schema.HEAD
        assert functions.applied(connection)


def test_a_second_upgrade_changes_nothing(database: Database) -> None:
    pipeline.upgrade(database)
    assert schema.differences(database) == []


def test_an_upgrade_drops_nothing_that_lists_being_made_may_call(database: Database) -> None:
    with database.connect() as connection:
        asked = b"SELECT proname, oid FROM pg_proc WHERE pronamespace = 'tterec'::regnamespace"
        before = sorted(connection.execute(asked).fetchall())
        functions.apply(connection)
        assert sorted(connection.execute(asked).fetchall()) == before


def test_a_function_of_before_with_other_columns_is_replaced(database: Database) -> None:
    embed = "tterec.embed(bigint, bigint[], real[])"
    with database.connect() as connection:
        asked = f"SELECT proargnames FROM pg_proc WHERE oid = '{embed}'::regprocedure".encode()
        now = connection.execute(asked).fetchall()
        connection.execute(f"DROP FUNCTION {embed}".encode())
        connection.execute(
            "CREATE FUNCTION tterec.embed(user_id bigint, items bigint[], ratings real[],"
            " OUT generation int, OUT history int) LANGUAGE sql AS 'SELECT 1, 2'"
        )
        functions.apply(connection)
        assert connection.execute(asked).fetchall() == now


def test_check_names_a_column_that_somebody_dropped(database: Database) -> None:
    with database.connect() as connection:
        connection.execute("ALTER TABLE tterec.users DROP COLUMN age CASCADE")
    assert any("age" in line for line in schema.differences(database))


def test_check_names_a_view_and_a_function_that_somebody_dropped_and_upgrade_mends_it(
    database: Database,
) -> None:
    with database.connect() as connection:
        connection.execute("DROP VIEW tterec.catalogue CASCADE")
        connection.execute("DROP FUNCTION tterec.popular_books CASCADE")
    found = schema.differences(database)
    assert "missing view: tterec.catalogue" in found
    assert "missing function: tterec.popular_books" in found
    pipeline.upgrade(database)
    assert schema.differences(database) == []


def test_check_names_functions_of_another_version_and_upgrade_mends_them(
    database: Database,
) -> None:
    with database.connect() as connection:
        connection.execute(
            "UPDATE tterec.schema_state SET value = 'old' WHERE key = 'functions_sha256'"
        )
    assert schema.differences(database) == ["the SQL functions are those of another version"]
    pipeline.upgrade(database)
    assert schema.differences(database) == []


def test_the_guard_names_the_command_on_an_empty_database(empty_database: Database) -> None:
    with empty_database.connect() as connection, pytest.raises(errors.SchemaOutdated) as caught:
        schema.require_current(connection)
    assert "run: tterec db upgrade" in str(caught.value)


def test_the_guard_names_the_command_on_an_old_and_on_a_newer_schema(database: Database) -> None:
    with database.connect() as connection:
        connection.execute("UPDATE tterec.alembic_version SET version_num = '0000'")
        with pytest.raises(errors.SchemaOutdated, match="run: tterec db upgrade"):
            schema.require_current(connection)
        connection.execute("UPDATE tterec.alembic_version SET version_num = '9999'")
        with pytest.raises(errors.SchemaOutdated, match="pip install --upgrade"):
            schema.require_current(connection)


def test_an_older_tterec_leaves_a_newer_schema_alone(database: Database) -> None:
    with database.connect() as connection:
        connection.execute("UPDATE tterec.alembic_version SET version_num = '9999'")
    with pytest.raises(errors.SchemaOutdated, match="pip install --upgrade"):
        pipeline.upgrade(database)


def test_two_upgrades_at_once_both_succeed(empty_database: Database) -> None:
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(pipeline.upgrade, empty_database) for _ in range(2)]:
            done.result()
    assert schema.differences(empty_database) == []


@pytest.mark.parametrize(
    "held",
    [
        "CREATE SCHEMA tterec",
        "SELECT pg_advisory_xact_lock(x'747465726563'::bigint)",
    ],
)
def test_an_upgrade_that_is_kept_waiting_gives_up_and_changes_nothing(
    empty_database: Database, monkeypatch: pytest.MonkeyPatch, held: str
) -> None:
    monkeypatch.setattr(schema, "_LOCK_TIMEOUT", "100ms")
    holder = psycopg.connect(empty_database.url)
    holder.execute(held.encode())
    with pytest.raises(errors.Busy, match="try again"):
        pipeline.upgrade(empty_database)
    holder.rollback()
    holder.close()
    with empty_database.connect() as connection:
        assert not exists(connection, "tterec")
        assert pgvector.installed(connection) is None
    pipeline.upgrade(empty_database)


def test_a_table_held_by_a_long_transaction_makes_the_upgrade_give_up(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "_LOCK_TIMEOUT", "100ms")
    with database.connect() as holder:
        holder.execute("LOCK TABLE tterec.alembic_version")
        with pytest.raises(errors.Busy, match="try again"):
            pipeline.upgrade(database)


def test_an_upgrade_that_fails_late_leaves_nothing(
    empty_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(functions, "bodies", lambda: ["SELECT no_such_function()"])
    with pytest.raises(errors.DatabaseError, match="no_such_function"):
        pipeline.upgrade(empty_database)
    with empty_database.connect() as connection:
        assert not exists(connection, "tterec")
        assert pgvector.installed(connection) is None


def test_the_extension_may_live_in_any_schema(empty_database: Database) -> None:
    with empty_database.connect() as connection:
        connection.execute('CREATE SCHEMA "odd ones"')
        connection.execute('CREATE EXTENSION vector SCHEMA "odd ones"')
    pipeline.upgrade(empty_database)
    assert schema.differences(empty_database) == []


@contextmanager
def database_of(empty: Database, revision: str) -> Iterator[Connection]:
    """A connection to a database that an earlier tterec has upgraded."""
    with empty.engine() as engine, engine.begin() as outer:
        connection = outer.connection.driver_connection
        assert connection is not None
        connection.execute("CREATE EXTENSION vector")
        connection.execute("CREATE SCHEMA tterec")
        command.upgrade(schema._alembic_config(outer), revision)
        yield connection


def test_lists_come_to_a_database_of_0004_that_has_data(empty_database: Database) -> None:
    with database_of(empty_database, "0004") as connection:
        connection.execute(
            "INSERT INTO tterec.users (user_id) VALUES (5);"
            "INSERT INTO tterec.models (status, objective, seed, config, sources)"
            " VALUES ('ready', 'softmax', 0, '{}', '{}');"
            "INSERT INTO tterec.user_state VALUES (1, 5, gen_random_uuid(), true)"
        )
    with empty_database.connect() as connection, pytest.raises(errors.SchemaOutdated):
        schema.require_current(connection)
    pipeline.upgrade(empty_database)
    assert schema.differences(empty_database) == []
    with empty_database.connect() as connection:
        assert connection.execute("SELECT user_id FROM tterec.user_state").fetchone() == (5,)
        connection.execute("INSERT INTO tterec.list_sets (generation, top) VALUES (1, 200)")
        connection.execute("DELETE FROM tterec.models")
        assert connection.execute("SELECT count(*) FROM tterec.list_sets").fetchone() == (0,)


def test_the_key_comes_to_hold_the_ratings_and_lists_of_before_go(
    empty_database: Database,
) -> None:
    with database_of(empty_database, "0005") as connection:
        connection.execute(
            "INSERT INTO tterec.books (book_id, isbn, title) SELECT i, i, i FROM"
            " generate_series(1, 200) i;"
            "INSERT INTO tterec.users (user_id) SELECT generate_series(1, 100);"
            "INSERT INTO tterec.ratings (user_id, book_id, rating)"
            " SELECT u, i, 7 FROM generate_series(1, 100) u, generate_series(1, 200) i;"
            "INSERT INTO tterec.models (status, objective, seed, config, sources)"
            " VALUES ('ready', 'softmax', 0, '{}', '{}');"
            "INSERT INTO tterec.user_lists (generation, user_id, digest, change, source, items,"
            " scores, nearest) VALUES (1, 5, 0, 0, 'history', '{1}', '{1}', 0)"
        )
    pipeline.upgrade(empty_database)
    assert schema.differences(empty_database) == []
    with empty_database.connect(autocommit=True) as connection:
        assert connection.execute("SELECT count(*) FROM tterec.user_lists").fetchone() == (0,)
        connection.execute("VACUUM ANALYZE tterec.ratings")
        plan = connection.execute("EXPLAIN SELECT * FROM tterec.history_digest(5)").fetchall()
        assert any("Index Only Scan using ratings_pkey" in row[0] for row in plan), plan
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute("INSERT INTO tterec.ratings (user_id, book_id) VALUES (5, 7)")


REFERRING = """
    CREATE SCHEMA shop;
    CREATE TABLE shop.reviews (
        reader bigint, book bigint, words text, CONSTRAINT "of: a 50%% rating" FOREIGN KEY (reader,
        book) REFERENCES tterec.ratings ON DELETE CASCADE DEFERRABLE INITIALLY DEFERRED);
    CREATE TABLE shop.votes (book bigint, reader bigint);
    CREATE TABLE shop.gifts (reader bigint, book bigint) PARTITION BY HASH (reader);
    CREATE TABLE shop.gifts_0 PARTITION OF shop.gifts FOR VALUES WITH (MODULUS 1, REMAINDER 0);
    INSERT INTO shop.reviews VALUES (5, 7, 'good');
    INSERT INTO shop.votes VALUES (7, 5), (1, 1);
    INSERT INTO shop.gifts VALUES (5, 7);
    ALTER TABLE shop.votes ADD CONSTRAINT of_rating FOREIGN KEY (reader, book)
        REFERENCES tterec.ratings (user_id, book_id) NOT VALID;
    ALTER TABLE shop.gifts ADD FOREIGN KEY (reader, book) REFERENCES tterec.ratings;
    COMMENT ON CONSTRAINT of_rating ON shop.votes IS 'it''s older than some of its rows'
""".replace("%%", "%")
CONSTRAINTS = """
    SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid), convalidated,
        obj_description(oid, 'pg_constraint')
    FROM pg_constraint WHERE confrelid = 'tterec.ratings'::regclass ORDER BY 1, 2
"""


def plant_a_rating(connection: Connection) -> None:
    """Book 7, user 5 and their rating."""
    connection.execute(
        "INSERT INTO tterec.books (book_id, isbn) VALUES (7, '7');"
        "INSERT INTO tterec.users (user_id) VALUES (5);"
        "INSERT INTO tterec.ratings (user_id, book_id, rating) VALUES (5, 7, 9)"
    )


def test_an_applications_foreign_keys_outlive_the_new_key(empty_database: Database) -> None:
    with database_of(empty_database, "0005") as connection:
        plant_a_rating(connection)
        connection.execute(REFERRING)
        before = connection.execute(CONSTRAINTS).fetchall()
    pipeline.upgrade(empty_database)
    assert schema.differences(empty_database) == []
    with empty_database.connect(autocommit=True) as connection:
        after = connection.execute(CONSTRAINTS).fetchall()
        assert after == before
        assert {(row[0], row[3]) for row in after} == {
            ("shop.reviews", True),
            ("shop.votes", False),
            ("shop.gifts", True),
            ("shop.gifts_0", True),
        }
        with pytest.raises(psycopg.errors.ForeignKeyViolation):
            connection.execute("INSERT INTO shop.votes VALUES (7, 6)")
        connection.execute("DELETE FROM shop.votes")
        connection.execute("DELETE FROM shop.gifts")
        connection.execute("DELETE FROM tterec.ratings")
        assert connection.execute("SELECT count(*) FROM shop.reviews").fetchone() == (0,)


def test_foreign_keys_of_another_role_are_named_and_nothing_is_changed(
    empty_database: Database,
) -> None:
    with database_of(empty_database, "0005") as connection:
        plant_a_rating(connection)
        connection.execute(REFERRING)
    with empty_database.connect() as connection:
        connection.execute(
            "CREATE ROLE librarian LOGIN; CREATE ROLE reviewer;"
            "ALTER TABLE shop.votes OWNER TO reviewer; ALTER TABLE shop.reviews OWNER TO reviewer;"
            "ALTER TABLE shop.gifts OWNER TO librarian; GRANT USAGE ON SCHEMA shop TO librarian;"
            "ALTER SCHEMA tterec OWNER TO librarian"
        )
        connection.execute(
            "DO $$ DECLARE one record; BEGIN FOR one IN SELECT oid::regclass AS name FROM pg_class"
            " WHERE relnamespace = 'tterec'::regnamespace AND relkind = 'r' LOOP EXECUTE"
            " format('ALTER TABLE %s OWNER TO librarian', one.name); END LOOP; END $$"
        )
        connection.execute(
            f"GRANT CREATE ON DATABASE {connection.info.dbname} TO librarian".encode()
        )
        before = connection.execute(CONSTRAINTS).fetchall()
    librarian = Database(empty_database.url.replace("postgres@", "librarian@"))
    try:
        with pytest.raises(errors.DatabaseError) as caught:
            pipeline.upgrade(librarian)
        said = str(caught.value)
        assert "\n" not in said
        assert 'of: a 50% rating" of shop.reviews (owner reviewer)' in said
        assert "of_rating of shop.votes (owner reviewer)" in said
        assert "shop.gifts" not in said
        with empty_database.connect(autocommit=True) as connection:
            assert schema.current(connection) == "0005"
            assert connection.execute(CONSTRAINTS).fetchall() == before
            drop = said[said.index("ALTER TABLE") : said.index("; and after it: ")]
            connection.execute(drop.encode())
            pipeline.upgrade(librarian)
            connection.execute(said[said.index("; and after it: ") + 16 :].encode())
            after = connection.execute(CONSTRAINTS).fetchall()
            assert [row[:4] for row in after] == [row[:4] for row in before]
    finally:
        with empty_database.connect(autocommit=True) as connection:
            connection.execute("DROP OWNED BY librarian, reviewer CASCADE")
            connection.execute("DROP ROLE librarian, reviewer")


def test_what_is_built_on_the_old_key_is_named_and_nothing_is_changed(
    empty_database: Database,
) -> None:
    with database_of(empty_database, "0005") as connection:
        plant_a_rating(connection)
        connection.execute(
            "CREATE VIEW public.best AS SELECT user_id, book_id, rating FROM tterec.ratings"
            " GROUP BY user_id, book_id"
        )
    with pytest.raises(errors.DatabaseError) as caught:
        pipeline.upgrade(empty_database)
    assert "view best depends on constraint ratings_pkey" in str(caught.value)
    assert "run: tterec db upgrade, and create it again" in str(caught.value)
    assert "CASCADE" not in str(caught.value)
    with empty_database.connect(autocommit=True) as connection:
        assert schema.current(connection) == "0005"
        connection.execute("DROP VIEW public.best")
    pipeline.upgrade(empty_database)
    assert schema.differences(empty_database) == []
