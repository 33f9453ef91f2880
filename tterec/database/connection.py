"""Connections to the database, and the one place where driver errors become tterec's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import errors as pg
from psycopg.conninfo import conninfo_to_dict

from tterec import config, errors

if TYPE_CHECKING:
    from sqlalchemy import Engine

Connection = psycopg.Connection[tuple[Any, ...]]

EMBEDDED = "embedded"
"""The origin of a database in the embedded server."""


@dataclass(frozen=True, slots=True)
class Database:
    """A database that can be reached: a libpq URL (or conninfo) and where it came from."""

    url: str
    origin: str = "given"

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

    @property
    def masked(self) -> str:
        """The URL without its password."""
        return config.mask_password(self.url) or self.origin

    @contextmanager
    def connect(self, *, autocommit: bool = False) -> Iterator[Connection]:
        """A connection; committed at the end of the block, rolled back on an exception."""
        connection = self._open(autocommit)
        with errors_wrapped(), connection:
            yield connection

    @contextmanager
    def engine(self) -> Iterator[Engine]:
        """An SQLAlchemy engine over the same connections, for migrations and comparisons.

        Connections are made by psycopg from the libpq URL, so no password needs escaping twice.
        """
        from sqlalchemy import NullPool, create_engine

        with errors_wrapped():
            engine = create_engine("postgresql+psycopg://", creator=self._open, poolclass=NullPool)
            try:
                yield engine
            finally:
                engine.dispose()

    def _open(self, autocommit: bool = False) -> Connection:
        try:
            return _connect(self.url, autocommit)
        except psycopg.OperationalError as error:
            if self.origin != EMBEDDED:
                raise _unreachable(error, self) from error
        except psycopg.ProgrammingError:
            # libpq quotes what it could not read, which may be a part of the password.
            raise errors.ConfigError(
                f"the database URL ({self.origin}) cannot be read; {config.URL_FORM}"
            ) from None
        from tterec.database import embedded

        url = embedded.ensure_running()
        try:
            return _connect(url, autocommit)
        except psycopg.OperationalError as error:
            raise _unreachable(error, self) from error


def _connect(url: str, autocommit: bool) -> Connection:
    named = {"fallback_application_name": "tterec", "client_encoding": "utf8"}
    # A host that swallows packets would hold a command for minutes.
    if "connect_timeout" not in conninfo_to_dict(url) and "PGCONNECT_TIMEOUT" not in os.environ:
        named["connect_timeout"] = "10"
    return psycopg.connect(url, autocommit=autocommit, **named)  # type: ignore[arg-type]


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


@contextmanager
def errors_wrapped() -> Iterator[None]:
    """Turn the driver's errors into tterec's, chained, with the mend where one is known."""
    try:
        yield
    except psycopg.Error as error:
        raise translated(error) from error
    except Exception as error:
        # SQLAlchemy keeps the driver's error in `orig`; it is not imported for its class alone.
        original = getattr(error, "orig", None)
        if isinstance(original, psycopg.Error):
            raise translated(original) from error
        raise


def translated(error: psycopg.Error) -> errors.TterecError:  # noqa: PLR0911 (a table)
    """The error of tterec that says what a driver error means and what to do about it."""
    text = " ".join(str(error).split())
    match error:
        case pg.UndefinedTable() | pg.InvalidSchemaName() | pg.UndefinedFunction() if (
            "tterec" in text or "vector" in text
        ):
            return errors.SchemaOutdated(f"{text}; run: tterec db upgrade")
        case pg.InsufficientPrivilege():
            return errors.DatabaseError(
                f"{text}; connect as a role that may, or ask the owner of the tables"
            )
        case pg.LockNotAvailable():
            return errors.Busy(f"{text}; another session holds the lock, try again when it is done")
        case pg.DeadlockDetected() | pg.SerializationFailure():
            return errors.Busy(f"{text}; another session wrote the same rows, try again")
        case pg.ReadOnlySqlTransaction():
            return errors.DatabaseError(f"{text}; connect to the primary, not to a replica")
        case pg.DiskFull():
            return errors.DatabaseError(f"{text}; free disk space on the server and try again")
        case pg.QueryCanceled():
            return errors.DatabaseError(
                f"{text}; raise statement_timeout for this role or try again"
            )
        case psycopg.OperationalError() if error.sqlstate is None:
            return errors.ConnectionFailed(
                f"the connection to the database broke: {text}; try again"
            )
        case _:
            return errors.DatabaseError(f"the database says: {text}")


# A refused connection has no SQLSTATE, only words; in another language they get the last mend.
_MENDS = (
    ("database", "does not exist", "create it with: createdb {dbname}"),
    ("authentication failed", "", "check the user and the password"),
    ("no password supplied", "", "add the password to the URL, or set PGPASSWORD"),
    ("role", "does not exist", "check the user"),
    ("pg_hba.conf", "", "the server's pg_hba.conf keeps this client out; ask its administrator"),
    ("connection slots", "", "end other sessions or raise the server's max_connections"),
    ("too many clients", "", "end other sessions or raise the server's max_connections"),
    ("starting up", "", "the server is replaying its log; try again in a while"),
    ("definition of service", "", "check PGSERVICE and the service file"),
    ("connection refused", "", "start the server or correct the address"),
    ("no such file or directory", "", "start the server or correct the address"),
    ("host", "", "correct the host's name"),
    ("timeout", "", "check the host's name, the port and the firewall"),
    ("", "", "check the address"),
)


def _unreachable(error: psycopg.OperationalError, database: Database) -> errors.ConnectionFailed:
    """What refused us, and the mend."""
    text = " ".join(str(error).split())
    reason = text.rsplit(" failed: ", 1)[-1].split(" Is the server running")[0]
    lower = reason.lower()
    mend = next(mend for one, two, mend in _MENDS if one in lower and two in lower)
    try:
        name = conninfo_to_dict(database.url).get("dbname") or os.environ.get("PGDATABASE", "NAME")
    except psycopg.Error:
        name = "NAME"
    return errors.ConnectionFailed(
        f"cannot connect to {database.masked}: {reason}; {mend.format(dbname=name)} "
        "(where the address comes from: tterec config show)"
    )
