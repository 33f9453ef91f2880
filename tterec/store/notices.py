"""Being woken when something is queued."""

from __future__ import annotations

from tterec.database import listeners
from tterec.database.connection import Connection
from tterec.store.change_queue import CHANNEL


def listen(connection: Connection) -> None:
    """Be told, on this connection, of what is queued from now on."""
    connection.execute(f"LISTEN {CHANNEL}".encode())
    listeners.sign_up(connection)
    # It may then hear nothing for hours: the server does not end it for that.
    connection.execute("SET idle_session_timeout = 0")
    connection.execute("SET tcp_keepalives_idle = 60")


def wait(connection: Connection, seconds: float) -> None:
    """Sleep until something is queued, or for so many seconds. Raises where the server is gone."""
    for _ in connection.notifies(timeout=seconds, stop_after=1):
        pass
