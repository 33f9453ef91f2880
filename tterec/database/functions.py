"""The SQL functions that other programs call: the files of `sql/functions/`, in name order."""

from __future__ import annotations

import hashlib
import re

from psycopg import errors as pg
from psycopg import sql

from tterec import errors
from tterec.database import generation_functions, ivf, letters
from tterec.database.connection import Connection
from tterec.database.pgvector import extension_schema
from tterec.database.resources import directory


def bodies() -> list[str]:
    """The files' texts. `@extension@` in them stands for the schema of the type `vector`, and
    what `letters` lists for characters."""
    files = sorted((directory("sql") / "functions").glob("*.sql"))
    return [file.read_text(encoding="utf-8") for file in files]


def fingerprint() -> str:
    """SHA-256 of all bodies, those of a generation's own too, as hexadecimal digits."""
    texts = [*bodies(), generation_functions.body()]
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def apply(connection: Connection) -> None:
    """(Re-)create every function, in the caller's transaction, and the indexes that they use.

    Raises DatabaseError where something is built on a function whose arguments have changed.
    """
    # A role that is not superuser may name hnsw.* settings only once the library is loaded.
    schema = extension_schema(connection)
    connection.execute(sql.SQL("SELECT '[1]'::{}.vector").format(schema))
    meant = {"@extension@": schema.as_string(connection)}
    meant |= letters.placeholders(connection.info.parameter_status("server_encoding") == "UTF8")
    try:
        for body in bodies():
            connection.execute(
                re.sub(r"@[a-z]+@", lambda name: meant.get(name[0], name[0]), body).encode()
            )
        for generation in generation_functions.recreate(connection):
            ivf.create_missing(connection, generation)
    except pg.DependentObjectsStillExist as error:
        raise errors.DatabaseError(
            f"the SQL functions cannot be replaced: {error.diag.message_primary}: "
            f"{' '.join((error.diag.message_detail or '').split())}; drop what is built on them, "
            "run: tterec db upgrade, and create it again"
        ) from error
    connection.execute(
        "INSERT INTO tterec.schema_state (key, value) VALUES ('functions_sha256', %s)"
        " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (fingerprint(),),
    )


def applied(connection: Connection) -> bool:
    """Whether the database has the functions of this version."""
    row = connection.execute(
        "SELECT value FROM tterec.schema_state WHERE key = 'functions_sha256'"
    ).fetchone()
    return row == (fingerprint(),)


def names() -> set[str]:
    """The names of all functions, without those of a generation's own."""
    return set(re.findall(r"CREATE (?:OR REPLACE )?FUNCTION tterec\.(\w+)", "".join(bodies())))


def differences(connection: Connection) -> list[str]:
    """What of this version's functions the database lacks; empty if it has them all."""
    found = [] if applied(connection) else ["the SQL functions are those of another version"]
    rows = connection.execute(
        "SELECT proname FROM pg_proc WHERE pronamespace = 'tterec'::regnamespace"
    ).fetchall()
    missing = sorted(names() - {str(name) for (name,) in rows})
    for (live,) in connection.execute("SELECT generation FROM tterec.active_model").fetchall():
        missing += generation_functions.missing(connection, live)
    return found + [f"missing function: tterec.{name}" for name in missing]
