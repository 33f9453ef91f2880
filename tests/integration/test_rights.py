"""Who may do what, object by object of the catalogue: no new one can be forgotten."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from psycopg import errors as pg
from psycopg import sql

from tests.conftest import create_database, url_of
from tests.integration.test_train import CONFIG, SHOP
from tterec import clustering, pipeline, updating
from tterec.database.connection import Connection, Database
from tterec.database.roles import READER
from tterec.store import trials

NOBODY = "tterec_test_nobody"

# Each names the relation as %s. A relation is read by its rows, a sequence by its value.
WRITES = (
    "INSERT INTO %s DEFAULT VALUES",
    "DELETE FROM %s",
    "TRUNCATE %s",
    "LOCK TABLE %s IN ACCESS EXCLUSIVE MODE",
    "ALTER TABLE %s RENAME TO mine",
    "ALTER TABLE %s OWNER TO CURRENT_USER",
    "CREATE INDEX ON %s ((1))",
    "CREATE TRIGGER mine AFTER INSERT ON %s FOR EACH STATEMENT"
    " EXECUTE FUNCTION pg_catalog.suppress_redundant_updates_trigger()",
)
OTHERS = (
    "CREATE TABLE tterec.mine ()",
    "CREATE FUNCTION tterec.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE TYPE tterec.mine AS (one int)",
    "ALTER SCHEMA tterec RENAME TO mine",
    "DROP SCHEMA tterec CASCADE",
    "SELECT * FROM tterec_tune.trials",
    "CREATE TABLE tterec_tune.mine ()",
    "DROP SCHEMA tterec_tune CASCADE",
)


@pytest.fixture(scope="module")
def shop(server: str, template: str) -> Iterator[Database]:
    """Every object there can be: a generation, clusters, a queue, trials."""
    database = Database(url_of(server, create_database(server, template)))
    with database.connect() as connection:
        connection.execute(SHOP)
        connection.execute(f"CREATE ROLE {NOBODY}".encode())
    pipeline.train(database, CONFIG)
    clustering.cluster(database, clusters=3)
    updating.update(database)
    with trials.opened(
        database, identity="x", sketch=[1], space=(), default={}, minimise=False, seed=0
    ):
        pass
    yield database
    with database.connect() as connection:
        connection.execute(f"DROP OWNED BY {NOBODY}; DROP ROLE {NOBODY}".encode())


@pytest.fixture
def owner(shop: Database) -> Iterator[Connection]:
    with shop.connect() as connection:
        yield connection
        connection.rollback()


@pytest.fixture
def reader(owner: Connection) -> Connection:
    owner.execute(f"SET ROLE {READER}".encode())
    return owner


@pytest.fixture
def nobody(owner: Connection) -> Connection:
    owner.execute(f"SET ROLE {NOBODY}".encode())
    return owner


def relations(connection: Connection, kinds: str) -> list[str]:
    """Qualified names of our relations of these kinds, as in pg_class."""
    rows = connection.execute(
        "SELECT oid::regclass::text FROM pg_class"
        " WHERE relnamespace IN ('tterec'::regnamespace, 'tterec_tune'::regnamespace)"
        " AND relkind = ANY (string_to_array(%s, NULL)) ORDER BY 1",
        (kinds,),
    ).fetchall()
    assert rows
    return [str(name) for (name,) in rows]


def refused(connection: Connection, statement: str) -> bool:
    """Whether the statement fails for want of a right; what it does otherwise is undone."""
    connection.execute("SAVEPOINT before")
    try:
        connection.execute(statement.encode())
    except pg.InsufficientPrivilege:
        return True
    except (pg.WrongObjectType, pg.FeatureNotSupported, pg.ObjectNotInPrerequisiteState):
        return True  # no right would help: TRUNCATE of a view
    finally:
        connection.execute("ROLLBACK TO before")
    return False


def columns(connection: Connection, relation: str) -> list[str]:
    rows = connection.execute(
        "SELECT quote_ident(attname) FROM pg_attribute"
        " WHERE attrelid::regclass::text = %s AND attnum > 0 AND NOT attisdropped",
        (relation,),
    ).fetchall()
    return [str(name) for (name,) in rows]


def test_the_reader_reads_every_table_and_view(reader: Connection) -> None:
    found = relations(reader, "rpvm")
    assert {"tterec.books", "tterec.item_vectors_1", "tterec.profile_tokens_1"} <= set(found)
    for name in found:
        assert refused(reader, f"SELECT FROM {name}") == name.startswith("tterec_tune."), name


def test_the_reader_changes_no_table_or_view(reader: Connection) -> None:
    for name in relations(reader, "rpvm"):
        updates = [f"UPDATE %s SET {one} = NULL" for one in columns(reader, name)]
        for statement in (*WRITES, *updates):
            assert refused(reader, statement % name), statement % name


def test_the_reader_has_no_right_but_to_read(reader: Connection) -> None:
    rows = reader.execute(
        """
        SELECT c.oid::regclass::text, a.privilege_type
        FROM pg_class c, aclexplode(c.relacl) a
        WHERE c.relnamespace IN ('tterec'::regnamespace, 'tterec_tune'::regnamespace)
            AND a.grantee IN (%s::regrole, 0)
        UNION ALL
        SELECT n.nspname, a.privilege_type FROM pg_namespace n, aclexplode(n.nspacl) a
        WHERE n.nspname IN ('tterec', 'tterec_tune') AND a.grantee IN (%s::regrole, 0)
        """,
        (READER, READER),
    ).fetchall()
    granted = {(str(name), str(right)) for name, right in rows}
    wanted = {(name, "SELECT") for name in relations(reader, "rpvm") if name < "tterec_"}
    assert granted == wanted | {("tterec", "USAGE")}


def test_the_reader_moves_no_sequence(reader: Connection) -> None:
    for name in relations(reader, "S"):
        for call in (f"nextval('{name}')", f"setval('{name}', 1)"):
            assert refused(reader, f"SELECT {call}"), call


@pytest.mark.parametrize("statement", OTHERS)
def test_the_reader_makes_and_drops_nothing(reader: Connection, statement: str) -> None:
    assert refused(reader, statement)


def functions(connection: Connection) -> list[tuple[str, str, bool]]:
    """(name, a call of it, whether it runs with its owner's rights) of all of ours.

    The arguments are NULL; a strict function would not be called at all, and gets zeros.
    """
    rows = connection.execute(
        """
        SELECT p.proname, format('%s(%s)', p.oid::regproc, (
                SELECT string_agg(format('%s::%s',
                    CASE WHEN p.proisstrict THEN '''0''' ELSE 'NULL' END, t::regtype),
                    ', ' ORDER BY n)
                FROM unnest(p.proargtypes) WITH ORDINALITY AS a (t, n))), p.prosecdef
        FROM pg_proc p WHERE p.pronamespace = 'tterec'::regnamespace
        """
    ).fetchall()
    return [(str(name), str(call), bool(definer)) for name, call, definer in rows]


def test_the_reader_calls_every_function_but_those_with_its_owners_rights(
    owner: Connection,
) -> None:
    found = functions(owner)
    names = {name for name, _, definer in found if not definer}
    assert names >= {"recommend", "recommend_for_books", "similar_books", "popular_books"}
    assert "queue_everything" not in names
    owner.execute(f"SET ROLE {READER}".encode())
    for name, call, definer in found:
        owner.execute("SAVEPOINT before")
        try:
            owner.execute(f"SELECT {call}".encode())
            called = True
        except pg.InsufficientPrivilege:
            called = False
        except (pg.Error, pg.RaiseException):
            called = True
        finally:
            owner.execute("ROLLBACK TO before")
        assert called != definer, name


def test_a_function_with_its_owners_rights_pins_its_search_path(owner: Connection) -> None:
    rows = owner.execute(
        "SELECT oid::regprocedure::text, proconfig FROM pg_proc"
        " WHERE pronamespace = 'tterec'::regnamespace AND prosecdef"
    ).fetchall()
    assert rows
    for name, settings in rows:
        assert "search_path=pg_catalog, pg_temp" in (settings or []), name


def test_everybody_else_is_refused_everything(nobody: Connection) -> None:
    for name in relations(nobody, "rpvm"):
        assert refused(nobody, f"SELECT FROM {name}"), name
        for statement in WRITES:
            assert refused(nobody, statement % name), statement % name
    for _, call, _ in functions(nobody):
        assert refused(nobody, f"SELECT {call}"), call
    for statement in OTHERS:
        assert refused(nobody, statement), statement


def test_functions_are_closed_to_who_may_only_use_the_schema(owner: Connection) -> None:
    """Every new function is PUBLIC's in Postgres: the schema must not be all that keeps it."""
    owner.execute(f"GRANT USAGE ON SCHEMA tterec TO {NOBODY}; SET ROLE {NOBODY}".encode())
    for _, call, _ in functions(owner):
        assert refused(owner, f"SELECT {call}"), call


def test_an_upgrade_takes_from_public_what_an_older_version_left_it(database: Database) -> None:
    with database.connect() as connection:
        names = ", ".join(
            sql.Literal(name).as_string() for name in ("recommend", "checked_k", "popularity")
        )
        connection.execute("GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA tterec TO PUBLIC")
        connection.execute(f"REVOKE ALL ON ALL FUNCTIONS IN SCHEMA tterec FROM {READER}".encode())
    pipeline.upgrade(database)
    with database.connect() as connection:
        row = connection.execute(
            f"SELECT count(*), bool_and(has_function_privilege('{READER}', oid, 'EXECUTE')),"
            " bool_or(has_function_privilege('public', oid, 'EXECUTE')) FROM pg_proc"
            f" WHERE pronamespace = 'tterec'::regnamespace AND proname IN ({names})".encode()
        ).fetchone()
        assert row is not None
        assert row[1:] == (True, False)
