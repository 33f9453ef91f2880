"""The one place where the driver's errors become tterec's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import errors as pg
from psycopg.conninfo import conninfo_to_dict

from tterec import errors


@contextmanager
def errors_wrapped() -> Iterator[None]:
    """Turn the driver's errors into tterec's, chained, with the mend where one is known."""
    try:
        yield
    except psycopg.Error as error:
        raise translated(error) from error
    except UnicodeEncodeError as error:
        # Half a surrogate pair: what a command's argument has for a byte that is no text.
        part = ascii(error.object[error.start : error.end])
        raise errors.InvalidArgument(
            f"{ascii(error.object)[:100]} is no text: it holds {part[:50]}; write it in UTF-8"
        ) from error
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
        case pg.DiskFull() if "shared memory" in text:
            return errors.DatabaseError(
                f"{text}; give the server a larger /dev/shm (Docker: --shm-size), or let one "
                "process do it, as says: tterec doctor"
            )
        case pg.DiskFull():
            what = text.split(" HINT:")[0]  # it says the same, without the server
            return errors.DatabaseError(f"{what}; free disk space on the server and try again")
        case pg.QueryCanceled() if "user request" in text:
            return errors.DatabaseError(f"{text}: somebody has cancelled it; try again")
        case pg.QueryCanceled():
            return errors.DatabaseError(
                f"{text}; raise statement_timeout for this role or try again"
            )
        case (
            pg.AdminShutdown()
            | pg.CrashShutdown()
            | pg.CannotConnectNow()
            | pg.IdleSessionTimeout()
        ):
            return errors.ConnectionFailed(f"the server ended the connection: {text}; try again")
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
    ("too many connections for", "", "end other sessions of it, or raise its CONNECTION LIMIT"),
    ("connection slots", "", "end other sessions or raise the server's max_connections"),
    ("too many clients", "", "end other sessions or raise the server's max_connections"),
    ("starting up", "", "the server is replaying its log; try again in a while"),
    ("recovery mode", "", "the server is replaying its log; try again in a while"),
    ("not yet accepting", "", "the server is replaying its log; try again in a while"),
    ("shutting down", "", "try again once it is back"),
    ("no space left", "", "free disk space on the server and try again"),
    ("closed the connection", "", "it may be restarting; try again in a while, or read its log"),
    ("definition of service", "", "check PGSERVICE and the service file"),
    ("connection refused", "", "start the server or correct the address"),
    ("no such file or directory", "", "start the server or correct the address"),
    ("host", "", "correct the host's name"),
    ("timeout", "", "check the host's name, the port and the firewall"),
    ("", "", "check the address"),
)


def unreachable(error: psycopg.OperationalError, url: str, masked: str) -> errors.ConnectionFailed:
    """The error of tterec for a refused connection: what refused us, and the mend."""
    text = " ".join(str(error).split())
    reason = text.rsplit(" failed: ", 1)[-1].split(" Is the server running")[0]
    lower = reason.lower()
    mend = next(mend for one, two, mend in _MENDS if one in lower and two in lower)
    try:
        name = conninfo_to_dict(url).get("dbname") or os.environ.get("PGDATABASE", "NAME")
    except psycopg.Error:
        name = "NAME"
    return errors.ConnectionFailed(
        f"cannot connect to {masked}: {reason}; {mend.format(dbname=name)} "
        "(where the address comes from: tterec config show)"
    )
