"""Migrations, the schema guard, and what `db check` compares."""

from __future__ import annotations

import pytest
from alembic.script import ScriptDirectory

from tterec import errors, pipeline
from tterec.database import functions, schema
from tterec.database.connection import Database


def test_head_is_the_newest_migration_file() -> None:
    script = ScriptDirectory.from_config(schema._alembic_config())
    assert script.get_current_head() == schema.HEAD


def test_an_upgraded_database_has_exactly_the_described_tables(database: Database) -> None:
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
