"""Connections to the database, and the one place where driver errors become tterec's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import errors as pg

from tterec import config, errors

if TYPE_CHECKING:
    from sqlalchemy import Engine

Connection = psycopg.Connection[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Database:
    """A database that can be reached: a libpq URL (or conninfo) and where it came from."""

    url: str
    origin: str = "given"

    @classmethod
    def resolve(cls, flag: str | None = None) -> Database:
        """The database meant by flag, environment or default; starts the embedded server."""
        target = config.database_target(flag)
        if target.url is not None:
            return cls(target.url, target.origin)
        from tterec.database import embedded

        return cls(embedded.ensure_running(), "embedded")

    @property
    def masked(self) -> str:
        """The URL without its password."""
        return config.mask_password(self.url) or self.origin

    @contextmanager
    def connect(self, *, autocommit: bool = False) -> Iterator[Connection]:
        """A connection; committed at the end of the block, rolled back on an exception."""
        with errors_wrapped(self.masked):
            connection: Connection = psycopg.connect(
                self.url, autocommit=autocommit, application_name="tterec", connect_timeout=10
            )
            with connection:
                yield connection

    @contextmanager
    def engine(self) -> Iterator[Engine]:
        """An SQLAlchemy engine over the same connections, for migrations and comparisons.

        Connections are made by psycopg from the libpq URL, so no password needs escaping twice.
        """
        from sqlalchemy import NullPool, create_engine

        with errors_wrapped(self.masked):
            engine = create_engine(
                "postgresql+psycopg://",
                creator=lambda: psycopg.connect(self.url, application_name="tterec"),
                poolclass=NullPool,
            )
            try:
                yield engine
            finally:
                engine.dispose()


@contextmanager
def errors_wrapped(where: str = "the database") -> Iterator[None]:
    """Turn the driver's errors into tterec's, chained, with the mend where one is known."""
    try:
        yield
    except psycopg.Error as error:
        raise translated(error, where) from error
    except Exception as error:
        # SQLAlchemy keeps the driver's error in `orig`; it is not imported for its class alone.
        original = getattr(error, "orig", None)
        if isinstance(original, psycopg.Error):
            raise translated(original, where) from error
        raise


def translated(  # noqa: PLR0911 (a table of errors and their mends)
    error: psycopg.Error, where: str = "the database"
) -> errors.TterecError:
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
        case pg.DiskFull():
            return errors.DatabaseError(f"{text}; free disk space on the server and try again")
        case pg.QueryCanceled():
            return errors.DatabaseError(
                f"{text}; raise statement_timeout for this role or try again"
            )
        case psycopg.OperationalError() if error.sqlstate is None:
            return errors.ConnectionFailed(
                f"cannot reach {where}: {text}; check the address with: tterec config show"
            )
        case _:
            return errors.DatabaseError(f"the database says: {text}")
