"""Whether a role may replace what there is in the schema `tterec`: only owners may."""

from __future__ import annotations

from psycopg import sql

from tterec import errors
from tterec.database import functions, generation_functions
from tterec.database.connection import Connection

# What a training makes belongs to who trained. Functions of other names are nobody's business.
_FOREIGN = """
    SELECT pg_get_userbyid(owner), min(name), count(*), pg_has_role(owner, current_user, 'MEMBER')
    FROM (
        SELECT proowner, oid::regprocedure::text FROM pg_proc
            WHERE pronamespace = to_regnamespace('tterec')
                AND (proname = ANY (%s) OR proname ~ %s)
        UNION ALL SELECT relowner, oid::regclass::text FROM pg_class
            WHERE relnamespace = to_regnamespace('tterec') AND relkind IN ('r', 'p', 'v', 'm', 'S')
    ) AS objects (owner, name)
    WHERE NOT pg_has_role(owner, 'USAGE') GROUP BY owner ORDER BY 3 DESC
"""


def require(connection: Connection) -> None:
    """Refuse to upgrade what this role does not own, be it as a member. Raises DatabaseError."""
    found = connection.execute(
        _FOREIGN, (sorted(functions.names()), generation_functions.pattern())
    ).fetchall()
    if not found:
        return
    row = connection.execute("SELECT current_user").fetchone()
    assert row is not None
    role, what, count = row[0], str(found[0][1]), sum(int(one[2]) for one in found)
    owners = sql.SQL(", ").join(sql.Identifier(str(one[0])) for one in found)
    who, verb = ("as that role", "owns") if len(found) == 1 else ("as a superuser", "own")
    mend = f"run tterec db upgrade {who}"
    if not any(one[3] for one in found):  # Postgres grants no role in a circle
        grant = sql.SQL("GRANT {} TO {}").format(owners, sql.Identifier(str(role)))
        mend += f", or, as a superuser, first: {grant.as_string()}"
    raise errors.DatabaseError(
        f"the role {role} may not replace {what}"
        + (f" and {count - 1} more" if count > 1 else "")
        + f", which {owners.as_string()} {verb}; nothing was changed; {mend}"
    )
