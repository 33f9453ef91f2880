"""What the role `tterec_reader` may do, and what it may not."""

from __future__ import annotations

import pytest

from tterec import errors, pipeline
from tterec.database import roles
from tterec.database.connection import Database


def as_reader(database: Database, statement: str) -> list[tuple[object, ...]]:
    with database.connect() as connection:
        connection.execute(f"SET ROLE {roles.READER}".encode())
        return connection.execute(statement.encode()).fetchall()


def test_the_reader_reads_tables_and_views_and_calls_functions(database: Database) -> None:
    for name in ("users", "books", "ratings", "models", "active_model", "catalogue"):
        assert as_reader(database, f"SELECT * FROM tterec.{name}") == []
    assert as_reader(database, "SELECT * FROM tterec.popular_books()") == []
    assert as_reader(database, "SELECT * FROM tterec.recommend(1)") == []


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO tterec.books (isbn) VALUES ('1')",
        "DELETE FROM tterec.ratings",
        "UPDATE tterec.active_model SET generation = 1",
        "TRUNCATE tterec.users",
        "CREATE TABLE tterec.mine ()",
        "DROP VIEW tterec.catalogue",
    ],
)
def test_the_reader_writes_nothing(database: Database, statement: str) -> None:
    with pytest.raises(errors.DatabaseError, match=r"permission denied|must be owner"):
        as_reader(database, statement)


def test_tables_made_later_are_readable_too(database: Database) -> None:
    with database.connect() as connection:
        connection.execute("CREATE TABLE tterec.later (id int)")
    assert as_reader(database, "SELECT * FROM tterec.later") == []


def test_a_role_that_exists_is_enough(empty_database: Database, database: Database) -> None:
    with database.connect() as connection:
        assert roles.reader_exists(connection)
    pipeline.upgrade(empty_database)
    assert as_reader(empty_database, "SELECT * FROM tterec.users") == []
