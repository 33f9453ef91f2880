"""The embedded Postgres: a small server of the user's own, started when it is first needed.

It stays after the command that started it, until `tterec db stop`, so that other programs can
use it. Everything of it lies in `config.home()`: `postgres/` (data, socket and `server.log`),
`embedded.json` (the address) and `embedded.lock`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from tterec import config
from tterec.database import address
from tterec.database.address import Address
from tterec.database.cluster import RECOVERY_S, Cluster
from tterec.database.driver_errors import errors_wrapped
from tterec.errors import Busy, EmbeddedServerError

# The lock file binds processes, not the threads of one.
_THREADS = threading.Lock()


@dataclass(frozen=True, slots=True)
class Status:
    """The embedded server at this moment; pid and url are None unless it runs."""

    home: Path
    data_directory: Path
    log: Path
    version: int | None
    pid: int | None
    url: str | None


def ensure_running() -> str:
    """The libpq URL of the embedded server's database, after starting what does not run.

    Raises EmbeddedServerError with the reason and the log's place, Busy where another command
    has been starting it for too long.
    """
    home = config.home()
    known = address.recorded(home)
    if known is not None and _refusal(known) is None:
        return known.url()
    cluster = Cluster(home)
    cluster.check_path()
    with _errors_wrapped(home), _lock(home):
        known = address.recorded(home)  # another command may have started it meanwhile
        if known is not None and _refusal(known) is None:
            return known.url()
        cluster.create()
        started = _join(cluster) or cluster.start()
        _ensure_database(started)
        address.record(home, started)
        return started.url()


def stop() -> bool:
    """Stop the embedded server; False if it was not running."""
    home = config.home()
    cluster = Cluster(home)
    with _errors_wrapped(home):
        if not cluster.directory.exists():
            return False
        with _lock(home):
            address.forget(home)
            if cluster.postmaster() is None:
                return False
            cluster.stop()
            return True


def is_meant_by(url: str) -> bool:
    """Whether a libpq URL names a database of the embedded server, which need not run."""
    try:
        given = conninfo_to_dict(url)
    except psycopg.Error:
        return False
    now = status()
    if now.url is None:
        return given.get("host") == str(now.data_directory)
    own = conninfo_to_dict(now.url)
    return all(str(given.get(part)) == str(own.get(part)) for part in ("host", "port"))


def status() -> Status:
    """What there is of the embedded server; starts nothing."""
    cluster = Cluster(config.home())
    with _errors_wrapped(cluster.home):
        process = cluster.postmaster()
        return Status(
            home=cluster.home,
            data_directory=cluster.directory,
            log=cluster.log,
            version=cluster.version,
            pid=None if process is None else process.pid,
            url=None if process is None else cluster.address.url(),
        )


def _join(cluster: Cluster) -> Address | None:
    """Wait for a server that is already starting, or going; None once none is running."""
    deadline = time.monotonic() + RECOVERY_S
    while (process := cluster.postmaster()) is not None:
        found = cluster.address
        refusal = _refusal(found, "postgres")
        if refusal is None:
            return found
        if cluster.phase == "ready" and "database system is" not in refusal:
            # It was up before we asked: waiting would not change its mind.
            raise EmbeddedServerError(
                f"the embedded Postgres (pid {process.pid}) does not let us in: {refusal}; "
                f"its log is {cluster.log}; run: tterec db stop"
            )
        if time.monotonic() > deadline:
            raise EmbeddedServerError(
                f"the embedded Postgres (pid {process.pid}) is {cluster.phase} for "
                f"{RECOVERY_S} s; watch its log {cluster.log} and try again"
            )
        time.sleep(0.1)
    return None


def _refusal(found: Address, database: str = address.DATABASE) -> str | None:
    """Why a database at an address cannot be used; None if it can."""
    try:
        psycopg.connect(found.url(database), connect_timeout=10).close()
    except psycopg.OperationalError as error:
        return " ".join(str(error).split())
    return None


def _ensure_database(found: Address) -> None:
    with psycopg.connect(found.url("postgres"), autocommit=True, connect_timeout=10) as connection:
        row = connection.execute(
            "SELECT 1 FROM pg_database WHERE datname = %s", (address.DATABASE,)
        ).fetchone()
        if row is None:
            connection.execute(
                sql.SQL("CREATE DATABASE {}").format(sql.Identifier(address.DATABASE))
            )


@contextmanager
def _errors_wrapped(home: Path) -> Iterator[None]:
    try:
        with errors_wrapped():
            yield
    except OSError as error:
        raise EmbeddedServerError(
            f"the embedded Postgres in {home} is out of reach: {error}; "
            "set TTEREC_HOME to a directory of yours"
        ) from error


@contextmanager
def _lock(home: Path) -> Iterator[None]:
    """One process at a time may create, start or stop the server of a home."""
    import fasteners

    from tterec.database import system_user

    home.mkdir(parents=True, exist_ok=True)
    system_user.open_home(home)
    lock = fasteners.InterProcessLock(home / "embedded.lock")
    with _THREADS:
        if not lock.acquire(timeout=RECOVERY_S):
            raise Busy(f"another command has been starting the server in {home}; try again")
        try:
            yield
        finally:
            lock.release()
