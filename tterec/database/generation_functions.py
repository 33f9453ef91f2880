"""The SQL functions of one generation's own, made when it is published: `sql/generation/`."""

from __future__ import annotations

import re

from tterec.database import ivf, resources, roles
from tterec.database.connection import Connection
from tterec.database.pgvector import extension_schema
from tterec.records import LEADERS

_NAME = re.compile(r"CREATE OR REPLACE FUNCTION tterec\.(\w+)_@generation@")


def body() -> str:
    """Their text. `@generation@` in it stands for the number, `@extension@` for the schema of the
    type `vector`, `@weights@` for the weights of ratings, as vectors."""
    # Here, so that functions with another number are seen to be those of another version.
    return resources.sql("generation/serving.sql").replace("@leaders@", str(LEADERS))


def pattern() -> str:
    """What the names of all generations' match, as a regular expression of Postgres."""
    return f"^({'|'.join(_names())})_[1-9][0-9]*$"


def create(connection: Connection, generation: int) -> None:
    """(Re-)create them, in the caller's transaction."""
    schema = extension_schema(connection).as_string(connection)
    # See functions.apply.
    connection.execute(f"SELECT '[1]'::{schema}.vector".encode())
    row = connection.execute(
        "SELECT dim, history_weights, coalesce((counts ->> 'item_vectors')::int, 0)"
        " FROM tterec.models WHERE generation = %s",
        (generation,),
    ).fetchone()
    assert row is not None
    dim, weights, rows = row
    meant = {
        "@generation@": str(generation),
        "@extension@": schema,
        "@dim@": str(dim),
        "@ivf@": ivf.name(generation),
        "@probes@": str(ivf.probes(rows, dim)),
        # Immutable: made when the function is planned.
        "@weights@": ", ".join(
            f"array_fill({weight!r}::real, ARRAY[{dim}])::{schema}.vector" for weight in weights
        ),
    }
    connection.execute(re.sub("@[a-z]+@", lambda name: meant[name[0]], body()).encode())
    roles.grant_functions(connection, _existing(connection, generation))


def create_missing(connection: Connection, generation: int) -> None:
    """Create them where one is missing."""
    if missing(connection, generation):
        create(connection, generation)


def recreate(connection: Connection) -> list[int]:
    """Re-create those of every generation that has some; the generations."""
    rows = connection.execute(
        "SELECT DISTINCT substring(proname FROM '[0-9]+$')::int FROM pg_proc"
        " WHERE pronamespace = 'tterec'::regnamespace AND proname ~ %s",
        (pattern(),),
    ).fetchall()
    rows += connection.execute("SELECT generation FROM tterec.active_model").fetchall()
    generations = sorted({int(row[0]) for row in rows})
    for generation in generations:
        create(connection, generation)
    return generations


def names(generation: int) -> list[str]:
    """The names of a generation's, whether or not they are there."""
    return [f"{name}_{generation}" for name in _names()]


def missing(connection: Connection, generation: int) -> list[str]:
    """The names of those that are not there."""
    wanted = names(generation)
    rows = connection.execute(
        "SELECT proname FROM pg_proc WHERE pronamespace = 'tterec'::regnamespace"
        " AND proname = ANY (%s)",
        (wanted,),
    ).fetchall()
    return sorted(set(wanted) - {str(row[0]) for row in rows})


def drop(connection: Connection, generation: int) -> None:
    """Drop those that there are."""
    for name in _existing(connection, generation):
        connection.execute(f"DROP FUNCTION {name}".encode())


def _existing(connection: Connection, generation: int) -> list[str]:
    """Name and arguments of those that there are, as Postgres quotes them."""
    rows = connection.execute(
        "SELECT oid::regprocedure::text FROM pg_proc WHERE pronamespace = 'tterec'::regnamespace"
        " AND proname = ANY (%s)",
        (names(generation),),
    ).fetchall()
    return [str(row[0]) for row in rows]


def _names() -> list[str]:
    return _NAME.findall(body())
