"""Whether a role may replace, or drop, what there is in the schema `tterec`: only owners may."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from psycopg import sql

from tterec import errors
from tterec.database import functions, generation_functions
from tterec.database.connection import Connection

_FOREIGN = """
    SELECT pg_get_userbyid(owner), min(name), count(*), pg_has_role(owner, current_user, 'MEMBER')
    FROM (
        SELECT proowner, oid::regprocedure::text FROM pg_proc
            WHERE pronamespace = to_regnamespace('tterec')
                AND (proname = ANY (%(functions)s) OR proname ~ %(pattern)s)
        UNION ALL SELECT relowner, oid::regclass::text FROM pg_class
            WHERE relnamespace = to_regnamespace('tterec') AND relkind IN ('r', 'p', 'v', 'm', 'S')
                AND (%(tables)s::text[] IS NULL OR relname = ANY (%(tables)s::text[]))
    ) AS objects (owner, name)
    WHERE NOT pg_has_role(owner, 'USAGE') GROUP BY owner ORDER BY 3 DESC
"""


def require(connection: Connection) -> None:
    """Refuse to upgrade what this role does not own, be it as a member. Raises DatabaseError."""
    # What a training makes belongs to who trained. Functions of other names are nobody's business.
    made = {"functions": sorted(functions.names()), "pattern": generation_functions.pattern()}
    _refuse(connection, "replace", "tterec db upgrade", {**made, "tables": None})


def require_droppable(
    connection: Connection, generations: Sequence[int], tables: Sequence[str]
) -> None:
    """Refuse to prune these generations, whose tables these are, where this role owns neither all
    of it nor the schema. Raises DatabaseError."""
    row = connection.execute(
        "SELECT pg_has_role(nspowner, 'USAGE') FROM pg_namespace WHERE nspname = 'tterec'"
    ).fetchone()
    if row != (True,):
        made = [name for one in generations for name in generation_functions.names(one)]
        given = {"functions": made, "pattern": "^$", "tables": list(tables)}
        _refuse(connection, "drop", "tterec models prune", given)


def _refuse(connection: Connection, verb: str, command: str, given: Mapping[str, object]) -> None:
    """Raise DatabaseError if another role owns one of the `functions`, by their names or by a
    `pattern` of them, or one of the `tables`, of all of them if None."""
    found = connection.execute(_FOREIGN, given).fetchall()
    if not found:
        return
    row = connection.execute("SELECT current_user").fetchone()
    assert row is not None
    role, what, count = row[0], str(found[0][1]), sum(int(one[2]) for one in found)
    owners = sql.SQL(", ").join(sql.Identifier(str(one[0])) for one in found)
    who, owns = ("as that role", "owns") if len(found) == 1 else ("as a superuser", "own")
    mend = f"run {command} {who}"
    if not any(one[3] for one in found):  # Postgres grants no role in a circle
        grant = sql.SQL("GRANT {} TO {}").format(owners, sql.Identifier(str(role)))
        mend += f", or, as a superuser, first: {grant.as_string()}"
    raise errors.DatabaseError(
        f"the role {role} may not {verb} {what}"
        + (f" and {count - 1} more" if count > 1 else "")
        + f", which {owners.as_string()} {owns}; nothing was changed; {mend}"
    )
