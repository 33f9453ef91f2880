"""The limits that a server sets to a role: how many sessions, and for how long a statement."""

from __future__ import annotations

from collections.abc import Iterator

from tterec.database.connection import Connection
from tterec.database.findings import Finding, value

# `tterec train` holds one for its locks and takes one to publish, a Recommender has one, and who
# looks for what is wrong needs one.
_CONNECTIONS = 3
# A recommendation by the exact scan of a large catalogue, on a busy server.
_LEAST_TIMEOUT_MS = 1000

# Of the server, less what it keeps for superusers and others; of the role; of the database.
_LIMITS = """
    SELECT limits.what, limits.most - limits.used, limits.mend FROM pg_roles r, pg_database d,
    LATERAL (VALUES
        ('the server', current_setting('max_connections')::int - CASE WHEN r.rolsuper THEN 0 ELSE
            current_setting('superuser_reserved_connections')::int
            + coalesce(current_setting('reserved_connections', true), '0')::int END,
            (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
            'end other sessions, or raise max_connections in postgresql.conf and restart it'),
        ('the role ' || r.rolname, CASE WHEN r.rolsuper THEN -1 ELSE r.rolconnlimit END,
            (SELECT count(*) FROM pg_stat_activity WHERE usesysid = r.oid),
            format('psql: ALTER ROLE %I CONNECTION LIMIT 20', r.rolname)),
        ('the database ' || d.datname, CASE WHEN r.rolsuper THEN -1 ELSE d.datconnlimit END,
            (SELECT count(*) FROM pg_stat_activity WHERE datid = d.oid),
            format('psql: ALTER DATABASE %I CONNECTION LIMIT 40', d.datname))
    ) AS limits (what, most, used, mend)
    WHERE r.rolname = session_user AND d.datname = current_database() AND limits.most >= 0
"""


def connections(connection: Connection) -> Iterator[Finding]:
    """Whether enough sessions are left to train and to serve."""
    for what, left, mend in connection.execute(_LIMITS).fetchall():
        if left < _CONNECTIONS - 1:  # this is one
            yield Finding(
                True,
                f"{what} lets in {max(left, 0)} more connection{'s' * (left != 1)}, and training "
                "beside a reader takes 3",
                mend,
            )


def statements(connection: Connection) -> Iterator[Finding]:
    """Whether a statement may take as long as a recommendation can.

    What takes its time, as a training does, lifts the timeout for itself.
    """
    timeout = int(
        value(
            connection,
            "SELECT setting::int FROM pg_settings WHERE name = 'statement_timeout'",
        )
    )
    if 0 < timeout < _LEAST_TIMEOUT_MS:
        yield Finding(
            True,
            f"statement_timeout is {timeout} ms: on a busy server recommendations will be cut off",
            f"psql: ALTER ROLE \"{connection.info.user}\" SET statement_timeout = '5s'; or where "
            "it was set: \\drds",
        )
