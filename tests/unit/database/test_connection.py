"""What a driver's error becomes."""

from __future__ import annotations

import pickle
import socket
import threading
from contextlib import suppress

import psycopg
import pytest
from psycopg import errors as pg

from tterec import errors
from tterec.database import connection, driver_errors, pgvector
from tterec.database.connection import Database


@pytest.mark.parametrize(
    ("driver", "ours", "mend"),
    [
        (pg.UndefinedTable('relation "tterec.models" does not exist'), errors.SchemaOutdated, ""),
        (pg.InvalidSchemaName('schema "tterec" does not exist'), errors.SchemaOutdated, ""),
        (pg.InsufficientPrivilege("permission denied"), errors.DatabaseError, "as a role that may"),
        (pg.LockNotAvailable("lock timeout"), errors.Busy, "try again"),
        (pg.DeadlockDetected("deadlock detected"), errors.Busy, "try again"),
        (pg.ReadOnlySqlTransaction("read-only"), errors.DatabaseError, "primary"),
        (pg.DiskFull("No space left on device"), errors.DatabaseError, "free disk space"),
        (pg.QueryCanceled("statement timeout"), errors.DatabaseError, "statement_timeout"),
        (psycopg.OperationalError("server closed"), errors.ConnectionFailed, "try again"),
        (pg.DivisionByZero("division by zero"), errors.DatabaseError, "the database says"),
    ],
)
def test_a_drivers_error_becomes_ours_chained_and_on_one_line(
    driver: psycopg.Error, ours: type[errors.TterecError], mend: str
) -> None:
    driver.args = (f"{driver.args[0]}\nDETAIL:  more",)
    with pytest.raises(ours) as caught, driver_errors.errors_wrapped():
        raise driver
    assert type(caught.value) is ours
    assert mend in str(caught.value)
    assert "DETAIL: more" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert caught.value.__cause__ is driver


def test_an_outdated_schema_names_the_command() -> None:
    assert "run: tterec db upgrade" in str(
        driver_errors.translated(pg.UndefinedTable('relation "tterec.users" does not exist'))
    )


def test_a_shops_own_missing_table_is_not_blamed_on_the_schema() -> None:
    found = driver_errors.translated(pg.UndefinedTable('relation "films" does not exist'))
    assert not isinstance(found, errors.SchemaOutdated)


def test_other_errors_pass_unchanged() -> None:
    with pytest.raises(ZeroDivisionError), driver_errors.errors_wrapped():
        raise ZeroDivisionError


def test_a_database_travels_to_another_process() -> None:
    database = connection.Database("postgresql://h/d", "--database-url")
    assert pickle.loads(pickle.dumps(database)) == database


@pytest.mark.parametrize(
    ("text", "parts"), [("0.8.5", (0, 8, 5)), ("0.10.0", (0, 10, 0)), ("1.0", (1, 0))]
)
def test_versions_compare_as_numbers(text: str, parts: tuple[int, ...]) -> None:
    assert pgvector.version(text) == parts
    assert pgvector.version(text) >= pgvector.OLDEST


def test_a_url_that_is_no_text_is_refused_without_showing_it() -> None:
    """As a command's argument has it whose bytes are no UTF-8."""
    database = Database("postgresql://u:secret\udcff@h/d", "--database-url")
    with pytest.raises(errors.ConfigError) as caught, database.connect():
        pass
    assert "--database-url" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_server_that_hangs_up_may_be_restarting() -> None:
    """So does Postgres to whom it has let in the moment before one of its processes dies."""

    def hang_up() -> None:
        with suppress(OSError):  # the test is over
            while True:
                client, _ = listener.accept()
                client.recv(8)
                client.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=hang_up, daemon=True).start()
        port = listener.getsockname()[1]
        url = f"postgresql://shop@127.0.0.1:{port}/shop"
        with pytest.raises(errors.ConnectionFailed) as caught, Database(url).connect():
            pass
        listener.shutdown(socket.SHUT_RDWR)
    assert "it may be restarting; try again in a while" in str(caught.value)
    assert "\n" not in str(caught.value)
