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
