"""The stages of a long verb, as a DBA sees them: in `application_name` of pg_stat_activity."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from psycopg import InterfaceError, OperationalError

from tterec.database.connection import Connection
from tterec.records import ProgressCallback
from tterec.timings import timed


@contextmanager
def showing(connection: Connection, name: str) -> Iterator[None]:
    """While the block runs, `connection` is named after it: `tterec train: fit`.

    If it fails, the connection keeps the name: it may be in no state to be given another. One that
    has died meanwhile is no failure here: the block may not have needed it.
    """
    before = connection.info.parameter_status("application_name") or ""
    _rename(connection, f"{before.partition(': ')[0] or 'tterec'}: {name}")
    yield
    with suppress(OperationalError, InterfaceError):
        _rename(connection, before)


@contextmanager
def stage(connection: Connection, name: str, progress: ProgressCallback) -> Iterator[None]:
    """The block is a stage of what `connection` works at, which is named after it; timed."""
    with showing(connection, name), timed(progress, name):
        yield


def _rename(connection: Connection, name: str) -> None:
    connection.execute("SELECT set_config('application_name', %s, false)", (name,))
