"""Advisory locks, by which tterec's processes agree on who does what.

They belong to a session or a transaction, so a killed process leaves none behind. They need a
connection of one's own: behind a pooler in transaction mode, connect to the server directly.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from psycopg import errors as pg

from tterec import errors
from tterec.database.connection import Connection

# Any two constants will do, as long as every tterec takes the same ones.
_TRAINING = 0x7474_7261_696E  # "ttrain"
_TUNING = 0x7474_7475_6E65  # "tttune"
_PROMOTION = 0x7474_7072_6F6D  # "ttprom"
_UPDATE = 0x7474_7570_6461  # "ttupda"
_LOAD = 0x7474_6C6F_6164  # "ttload"
_PRECOMPUTE = 0x7474_7072_6563  # "ttprec"
_LISTS = 0x7474_6C69_7374  # "ttlist"
_BUILDING_CLASS = 0x7474_6275  # "ttbu"; the second key is the generation

# Whoever makes what another version would make otherwise, and what becomes of it.
_MAKERS = {
    _TRAINING: ("a training runs", "tterec train", "publish"),
    _PRECOMPUTE: ("`tterec precompute` runs", "tterec precompute", "store"),
}
_UPGRADED = "`tterec db upgrade` is running on this database; wait until it is done, and try again"

_ROWS_CLASSES = {"items": 0x7474_6974, "users": 0x7474_7573}  # "ttit", "ttus"

# Locks are kept in shared memory, so rows share them. An id waits for no more than a batch.
_ROW_LOCKS = 1024

# Promotions take milliseconds: who waits longer waits for a reader of the views or a dump.
PROMOTION_TIMEOUT = "10s"

# Who waits for an exclusive lock makes all wait who come after: for so long, then they go first.
_TRY = "200ms"
_PAUSE_SECONDS = 0.5
# In which the server has noticed that a client has gone.
_GONE_SECONDS = 1.0


def hold_training(connection: Connection) -> None:
    """Be the one process that trains, until this connection closes. Raises Busy."""
    if not _held_soon(connection, _TRAINING):
        if not training_runs(connection):
            raise errors.Busy(_UPGRADED)
        raise errors.Busy(
            "another `tterec train` or `tterec update --fine-tune` is running on this database; "
            "wait until it is done, and try again"
        )


def training_runs(connection: Connection) -> bool:
    """Whether a process trains on this database."""
    return bool(_holders(connection, _TRAINING))


def hold_off_makers(connection: Connection) -> None:
    """Let no process train or precompute lists until this transaction ends. Raises Busy while one
    does."""
    for key, (what, command, keeps) in _MAKERS.items():
        row = connection.execute("SELECT pg_try_advisory_xact_lock_shared(%s)", (key,)).fetchone()
        if row == (True,):
            continue
        found = _holders(connection, key)
        name, pid = found[0] if found else ("", 0)
        raise errors.Busy(
            f"{what} on this database ({name or command}, pid {pid} in pg_stat_activity), and "
            f"would {keeps} what the old version makes; wait until it is done, or stop it, and try "
            "again"
        )


def _holders(connection: Connection, key: int) -> list[tuple[str, int]]:
    """Who holds a lock alone: the name and the process id of its session."""
    return connection.execute(
        "SELECT a.application_name, l.pid FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid)"
        " WHERE l.locktype = 'advisory' AND l.objsubid = 1 AND l.mode = 'ExclusiveLock'"
        " AND l.granted"
        " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        " AND (l.classid::bigint << 32) + l.objid::bigint = %s",
        (key,),
    ).fetchall()


def hold_tuning(connection: Connection) -> None:
    """Be the one process that tunes, until this connection closes. Raises Busy."""
    if not _held_soon(connection, _TUNING):
        raise errors.Busy(
            "another `tterec tune` is running on this database; wait for it, or stop it with "
            "Ctrl-C and go on with its trials: tterec tune"
        )


def hold_update(connection: Connection) -> None:
    """Be the one process that updates the live generation, until this connection closes or
    release_update. Raises Busy."""
    if not _held_soon(connection, _UPDATE):
        raise errors.Busy(
            "another update is running on this database, of `tterec update` or a worker; "
            "wait for it and try again"
        )


def try_update(connection: Connection) -> bool:
    """As hold_update; whether it is held now."""
    return _held_for_hours(connection, _UPDATE)


def release_update(connection: Connection) -> None:
    """Let others update."""
    connection.execute("SELECT pg_advisory_unlock(%s)", (_UPDATE,))


def hold_load(connection: Connection) -> None:
    """Be the one process that loads files, until this transaction ends. Raises Busy."""
    row = connection.execute("SELECT pg_try_advisory_xact_lock(%s)", (_LOAD,)).fetchone()
    if row != (True,):
        raise errors.Busy(
            "another `tterec load` is running on this database; wait until it is done, and try "
            "again"
        )


def hold_precompute(connection: Connection) -> None:
    """Be the one process that makes lists, until this connection closes. Raises Busy."""
    if not _held_soon(connection, _PRECOMPUTE):
        if not _holders(connection, _PRECOMPUTE):
            raise errors.Busy(_UPGRADED)
        raise errors.Busy(
            "another `tterec precompute` is running on this database; wait until it is done: what "
            "it has made need not be made again"
        )


@contextmanager
def making_lists(connection: Connection) -> Iterator[None]:
    """While the block runs, nobody changes what is known of users.

    It is held by the session, so that a transaction's snapshot may begin under it.
    """
    connection.execute("SELECT pg_advisory_lock(%s)", (_LISTS,))
    try:
        yield
    finally:
        if not connection.broken:
            connection.execute("SELECT pg_advisory_unlock(%s)", (_LISTS,))


def await_lists(connection: Connection) -> None:
    """Wait until no list is being made, and let none be until this transaction ends."""
    connection.execute("SELECT pg_advisory_xact_lock_shared(%s)", (_LISTS,))


def await_rows(connection: Connection, name: str, ids: Iterable[int]) -> None:
    """Wait to be the one transaction that writes what is derived of these `items` or `users`.

    Read the rows afterwards: what was read before may have been overtaken. All take their locks in
    the same order, items before users, so nobody waits in a circle.
    """
    keys = sorted({id_ % _ROW_LOCKS for id_ in ids})
    connection.execute(
        "SELECT pg_advisory_xact_lock(%s, key) FROM unnest(%s::int[]) WITH ORDINALITY AS k (key, n)"
        " ORDER BY n",
        (_ROWS_CLASSES[name], keys),
    )


def _held_soon(connection: Connection, key: int) -> bool:
    """As _held_for_hours; a session whose client has gone may hold the lock for another moment."""
    until = time.monotonic() + _GONE_SECONDS
    while not _held_for_hours(connection, key):
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def _held_for_hours(connection: Connection, key: int) -> bool:
    """Whether this connection now holds the lock.

    It may then be idle for hours: the server neither ends it for that, nor lets the routers in
    between forget it.
    """
    connection.execute("SET idle_session_timeout = 0")
    connection.execute("SET tcp_keepalives_idle = 60")
    row = connection.execute("SELECT pg_try_advisory_lock(%s)", (key,)).fetchone()
    return row == (True,)


def hold_building(connection: Connection, generation: int) -> None:
    """Mark a generation as being built by this connection, until it closes.

    Called in the transaction that inserts the registry row, so nobody sees the one without
    the other.
    """
    connection.execute("SELECT pg_advisory_lock(%s, %s)", (_BUILDING_CLASS, generation))


def is_building(connection: Connection, generation: int) -> bool:
    """Whether the process that builds the generation still lives.

    Where it does not, this transaction is now the only one that may clear up after it.
    """
    row = connection.execute(
        "SELECT NOT pg_try_advisory_xact_lock(%s, %s)", (_BUILDING_CLASS, generation)
    ).fetchone()
    return row == (True,)


def await_promotion(connection: Connection) -> None:
    """Wait to be the one transaction that decides which generation is live. Raises Busy.

    Every other lock that this transaction waits for from here on is given up after
    PROMOTION_TIMEOUT, with the driver's LockNotAvailable.
    """
    connection.execute("SELECT set_config('lock_timeout', %s, true)", (PROMOTION_TIMEOUT,))
    try:
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (_PROMOTION,))
    except pg.LockNotAvailable:
        raise errors.Busy(
            "another process is promoting, rolling back or pruning generations of this database, "
            f"for {PROMOTION_TIMEOUT} by now; try again when it is done"
        ) from None


def in_short_waits(connection: Connection, change: Callable[[], object]) -> None:
    """Change what locks tables or views against their readers, without making these wait long.

    It is tried for a moment, with pauses in which the readers go on, for as long as the
    transaction's lock_timeout allows; then LockNotAvailable is raised. Where readers and this
    would wait for each other, it is this that gives in.
    """
    row = connection.execute(
        "SELECT setting, setting::int / 1000.0 FROM pg_settings WHERE name = 'lock_timeout'"
    ).fetchone()
    assert row is not None
    setting, seconds = str(row[0]), float(row[1])
    deadline = time.monotonic() + (seconds or float("inf"))
    while True:
        try:
            with connection.transaction():
                connection.execute("SELECT set_config('lock_timeout', %s, true)", (_TRY,))
                change()
                connection.execute("SELECT set_config('lock_timeout', %s, true)", (setting,))
            return
        except pg.LockNotAvailable:
            if time.monotonic() + _PAUSE_SECONDS > deadline:
                raise
            time.sleep(_PAUSE_SECONDS)
