"""Whether a worker listens, told by a lock that each of them shares: all roles see locks."""

from __future__ import annotations

from tterec.database.connection import Connection

_LISTENING = 0x7474_776F_726B  # "ttwork"


def sign_up(connection: Connection) -> None:
    """Be seen as a worker until this connection closes."""
    connection.execute("SELECT pg_advisory_lock_shared(%s)", (_LISTENING,))


def any_listens(connection: Connection) -> bool:
    """Whether a worker follows this database, on this server."""
    row = connection.execute(
        "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        " AND (classid::bigint << 32) + objid::bigint = %s)",
        (_LISTENING,),
    ).fetchone()
    return row == (True,)
