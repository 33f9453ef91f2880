"""The errors that tterec raises.

A class's docstring is its default message. A message says what happened, to which input, and
what to type next; it is a single line, because the command line prints it as it is.
"""


class TterecError(Exception):
    """tterec could not do what was asked."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (self.__doc__ or "").strip().splitlines()[0])


class ConfigError(TterecError):
    """A setting is unknown or has a value that cannot be used."""


class InvalidArgument(TterecError):
    """An argument has a value that cannot be used."""


class DatabaseError(TterecError):
    """The database refused or failed."""


class ConnectionFailed(DatabaseError):
    """The database cannot be reached; check the URL with: tterec config show"""


class EmbeddedServerError(DatabaseError):
    """The embedded Postgres could not be started; see its log with: tterec db status"""


class SchemaOutdated(DatabaseError):
    """The database schema is not the one this version needs; run: tterec db upgrade"""


class PgvectorMissing(DatabaseError):
    """The pgvector extension is missing; a DBA must run: CREATE EXTENSION vector"""


class Busy(DatabaseError):
    """Another tterec process is doing the same to this database; wait for it and try again."""


class LoadError(TterecError):
    """A file could not be loaded; the database is as it was."""


class SourceError(TterecError):
    """A source query does not return what tterec needs."""


class RowsRefused(SourceError):
    """Some rows of the sources cannot be embedded; all others were."""


class TrainingError(TterecError):
    """The towers could not be trained; nothing was published."""


class EvaluationError(TterecError):
    """The recommendations could not be evaluated; nothing was stored."""


class NoActiveModel(TterecError):
    """No generation is live; run: tterec train"""


class UnknownGeneration(TterecError):
    """There is no such generation; see: tterec models list"""


class UnknownBook(TterecError):
    """There is no such book in the catalogue."""
