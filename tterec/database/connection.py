"""Which database, and connections to it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from tterec import config, errors, urls
from tterec.database.arrays import IdsDumper
from tterec.database.driver_errors import errors_wrapped, unreachable

if TYPE_CHECKING:
    from sqlalchemy import Engine

Connection = psycopg.Connection[tuple[Any, ...]]

EMBEDDED = "embedded"
"""The origin of a database in the embedded server."""


_TIMEOUTS = (
    "statement_timeout",
    "lock_timeout",
    "transaction_timeout",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
)


@dataclass(frozen=True, slots=True)
class Database:
    """A database that can be reached: a libpq URL (or conninfo), where it came from, and the name
    of its connections in pg_stat_activity, unless the URL has one."""

    url: str
    origin: str = "given"
    application: str = "tterec"

    def __repr__(self) -> str:  # tracebacks and logs show no password
        return f"Database({self.masked!r}, {self.origin!r})"

    @classmethod
    def resolve(cls, flag: str | None = None) -> Database:
        """The database meant by flag, environment or default.

        The embedded server is started if it never ran; else it is believed to run still, and
        `connect` starts it if it does not.
        """
        target = config.database_target(flag)
        if target.url is not None:
            return cls(target.url, target.origin)
        from tterec.database import address

        known = address.recorded(config.home())
        if known is not None:
            return cls(known.url(), EMBEDDED)
        from tterec.database import embedded

        return cls(embedded.ensure_running(), EMBEDDED)

    def of(self, verb: str) -> Database:
        """The same, with connections that are named after what they are for: `tterec train`."""
        return replace(self, application=f"tterec {verb}")

    @property
    def masked(self) -> str:
        """The URL without its password."""
        return urls.mask_password(self.url) or self.origin

    @contextmanager
    def connect(self, *, autocommit: bool = False, patient: bool = False) -> Iterator[Connection]:
        """A connection; committed at the end of the block, rolled back on an exception.

        `patient`: for work that takes as long as it takes. No timeout of the role or the database
        ends it; that its client is gone does.
        """
        connection = self.open(autocommit)
        with errors_wrapped(), connection:
            if patient:
                be_patient(connection)
            yield connection

    @contextmanager
    def engine(self) -> Iterator[Engine]:
        """An SQLAlchemy engine over the same connections, for migrations and comparisons.

        Connections are made by psycopg from the libpq URL, so no password needs escaping twice.
        """
        from sqlalchemy import NullPool, create_engine

        with errors_wrapped():
            engine = create_engine("postgresql+psycopg://", creator=self.open, poolclass=NullPool)
            try:
                yield engine
            finally:
                engine.dispose()

    def open(self, autocommit: bool = False) -> Connection:
        """A connection that the caller closes; most callers want `connect`."""
        try:
            return _connect(self.url, autocommit, self.application)
        except psycopg.OperationalError as error:
            if self.origin != EMBEDDED:
                raise unreachable(error, self.url, self.masked) from error
        except (psycopg.ProgrammingError, UnicodeEncodeError):
            # What could not be read is quoted by either, and may be a part of the password.
            raise errors.ConfigError(
                f"the database URL ({self.origin}) cannot be read; {urls.URL_FORM}"
            ) from None
        from tterec.database import embedded

        url = embedded.ensure_running()
        try:
            return _connect(url, autocommit, self.application)
        except psycopg.OperationalError as error:
            raise unreachable(error, self.url, self.masked) from error


def be_patient(connection: Connection) -> None:
    """Lift the timeouts of statements and sessions; of one that was killed, end the statement."""
    with connection.transaction():
        connection.execute(
            "SELECT set_config(name, '0', false) FROM pg_settings WHERE name = ANY (%s)",
            (list(_TIMEOUTS),),
        )
    # Not every server's operating system can tell.
    with suppress(psycopg.DatabaseError), connection.transaction():
        connection.execute("SET client_connection_check_interval = '2s'")
    if not connection.autocommit:
        connection.commit()


def _connect(url: str, autocommit: bool, application: str) -> Connection:
    named = {"fallback_application_name": application, "client_encoding": "utf8"}
    # A host that swallows packets would hold a command for minutes.
    if "connect_timeout" not in conninfo_to_dict(url) and "PGCONNECT_TIMEOUT" not in os.environ:
        named["connect_timeout"] = "10"
    connection = psycopg.connect(url, autocommit=autocommit, **named)  # type: ignore[arg-type]
    connection.adapters.register_dumper("numpy.ndarray", IdsDumper)
    return connection


def environment_url() -> str:
    """The libpq URL that the PG* variables and the service file amount to, less a password."""
    from urllib.parse import quote, urlencode

    found = {
        option.keyword.decode(): option.val.decode()
        for option in psycopg.pq.Conninfo.get_defaults()
        if option.val and option.envvar  # what is a default of libpq itself goes without saying
    }
    named: dict[str, str] = {
        key: found[key] for key in ("host", "hostaddr", "port", "user") if key in found
    }
    query = urlencode(named, quote_via=quote)
    return f"postgresql:///{quote(found.get('dbname', ''), safe='')}{'?' if query else ''}{query}"
