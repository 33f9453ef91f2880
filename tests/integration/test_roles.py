"""What the role `tterec_reader` may do, and what it may not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack

import numpy as np
import psycopg
import pytest

from tests.integration import generations
from tterec import errors, pipeline
from tterec.database import roles
from tterec.database.connection import Connection, Database
from tterec.store.pruning import Pruned


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


@pytest.fixture
def two_roles(empty_database: Database) -> Iterator[tuple[Database, Database]]:
    """A database as the role that made its schema, and as one that may train there, being a
    member of it."""
    with ExitStack() as after:
        admin = after.enter_context(empty_database.connect(autocommit=True))
        admin.execute("CREATE EXTENSION vector")
        for statement in ("CREATE ROLE shop LOGIN", "CREATE ROLE trainer LOGIN IN ROLE shop"):
            admin.execute(statement)  # type: ignore[arg-type]
            role = statement.split()[2]
            after.callback(admin.execute, f"DROP ROLE {role}".encode())
            after.callback(admin.execute, f"DROP OWNED BY {role} CASCADE".encode())
        admin.execute(f"GRANT CREATE ON DATABASE {admin.info.dbname} TO shop".encode())
        shop, trainer = (
            Database(psycopg.conninfo.make_conninfo(empty_database.url, user=role))
            for role in ("shop", "trainer")
        )
        pipeline.upgrade(shop)
        with trainer.connect() as connection:
            ids = generations.plant_books(connection, 30)
            generations.plant(connection, generations.random_vectors(ids))
        yield shop, trainer


def test_who_may_not_replace_what_another_s_training_made_is_told_before_anything_changes(
    two_roles: tuple[Database, Database], empty_database: Database
) -> None:
    shop, trainer = two_roles
    with empty_database.connect() as connection:
        connection.execute("UPDATE tterec.schema_state SET value = 'old'")
    with pytest.raises(errors.DatabaseError) as caught:
        pipeline.upgrade(shop)
    said = str(caught.value)
    assert "role shop may not replace tterec." in said
    assert 'which "trainer" owns; nothing was changed; run tterec db upgrade as that role' in said
    assert "\n" not in said
    assert "GRANT" not in said  # a member's role is not granted to who it is a member of
    with empty_database.connect() as connection:
        found = connection.execute("SELECT DISTINCT value FROM tterec.schema_state").fetchall()
    assert found == [("old",)]
    pipeline.upgrade(trainer)  # as it says: a member owns what its role owns


def test_a_member_of_whoever_trained_may_upgrade(
    two_roles: tuple[Database, Database], empty_database: Database
) -> None:
    shop, _ = two_roles
    with empty_database.connect() as connection:
        connection.execute("REVOKE shop FROM trainer")
    with pytest.raises(errors.DatabaseError, match="superuser, first: GRANT") as caught:
        pipeline.upgrade(shop)
    with empty_database.connect() as connection:
        connection.execute(str(caught.value).rpartition(": ")[2].encode())
    pipeline.upgrade(shop)


def test_who_may_not_drop_a_generation_is_told_before_any_is_dropped(
    two_roles: tuple[Database, Database], empty_database: Database
) -> None:
    """Also where the first that would go is the role's own."""
    shop, trainer = two_roles
    with trainer.connect() as connection:
        for _ in range(3):
            generations.plant(connection, generations.random_vectors(np.arange(1, 31)))
    janitor = Database(psycopg.conninfo.make_conninfo(empty_database.url, user="janitor"))
    with empty_database.connect(autocommit=True) as connection:
        connection.execute(
            "CREATE ROLE janitor LOGIN; GRANT ALL ON SCHEMA tterec TO janitor;"
            "GRANT ALL ON ALL TABLES IN SCHEMA tterec TO janitor"
        )
        connection.execute(
            "DO $$ DECLARE one record; BEGIN"
            " FOR one IN SELECT 'TABLE' AS kind, oid::regclass::text AS name FROM pg_class"
            "  WHERE relkind = 'r' AND relnamespace = 'tterec'::regnamespace AND relname ~ '_1$'"
            "  UNION ALL SELECT 'FUNCTION', oid::regprocedure::text FROM pg_proc"
            "  WHERE pronamespace = 'tterec'::regnamespace AND proname ~ '_1$'"
            " LOOP EXECUTE format('ALTER %s %s OWNER TO janitor', one.kind, one.name); END LOOP;"
            " END $$"
        )
        before = everything(connection)
        try:
            with pytest.raises(errors.DatabaseError) as caught:
                pipeline.models_prune(janitor)
            said = str(caught.value)
            assert re.search(r"the role janitor may not drop tterec\.\w+_2\b.* and \d more", said)
            assert "_1" not in said
            assert 'which "trainer" owns; nothing was changed; run tterec models prune as' in said
            assert said.endswith('as a superuser, first: GRANT "trainer" TO "janitor"')
            assert "\n" not in said
            assert everything(connection) == before
            # Who owns the schema may drop whatever is in it.
            assert pipeline.models_prune(shop).pruned == [1, 2]
            # What stays need not be one's own.
            assert pipeline.models_prune(janitor) == Pruned()
        finally:
            connection.execute("DROP OWNED BY janitor CASCADE; DROP ROLE janitor")


def everything(connection: Connection) -> list[tuple[object, ...]]:
    """What a prune could drop or change, and who owns it."""
    return connection.execute(
        "SELECT oid::regclass::text, relowner FROM pg_class"
        " WHERE relnamespace = 'tterec'::regnamespace UNION ALL"
        " SELECT oid::regprocedure::text, proowner FROM pg_proc"
        " WHERE pronamespace = 'tterec'::regnamespace UNION ALL"
        " SELECT generation || status, 0 FROM tterec.models ORDER BY 1"
    ).fetchall()
