"""The source views: three queries, by default over our own tables, through which all is read."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from psycopg import DataError, InternalError, NotSupportedError, ProgrammingError, sql
from psycopg import errors as pg

from tterec import errors
from tterec.database import roles, schema
from tterec.database.connection import Connection
from tterec.database.resources import directory
from tterec.store import locks

NAMES = ("interactions", "users", "items")
_VIEWS = (
    "tterec.interactions",
    "tterec.named_interactions",
    "tterec.catalogue",
    "tterec.source_interactions",
    "tterec.source_users",
    "tterec.source_items",
)


@dataclass(frozen=True, slots=True)
class Queries:
    """The bodies of the three source views, as SQL text without a closing semicolon."""

    interactions: str
    users: str
    items: str

    def body(self, name: str) -> str:
        """The query called `interactions`, `users` or `items`."""
        return str(getattr(self, name))

    @property
    def origin(self) -> str:
        """'default' for the queries that tterec brings, 'custom' for a shop's own."""
        return "default" if self == default_queries() else "custom"


_COMMENT = re.compile(r"--[^\n]*|/\*.*?\*/", re.DOTALL)


def default_queries() -> Queries:
    """The files of `sql/training/`, as they are now."""
    folder = directory("sql") / "training"
    return Queries(*(cleaned((folder / f"{n}.sql").read_text(encoding="utf-8")) for n in NAMES))


def cleaned(text: str) -> str:
    """A query as a view's body: no surrounding blanks, no closing semicolon."""
    return text.strip().rstrip(";").rstrip()


def current_queries(connection: Connection) -> Queries | None:
    """The bodies that the views have now; None before the first set_sources."""
    rows = connection.execute(
        "SELECT key, value FROM tterec.schema_state WHERE key LIKE 'source\\_%'"
    ).fetchall()
    values: dict[str, str] = dict(rows)
    if not values:
        return None
    return Queries(*(values[f"source_{name}"] for name in NAMES))


def chosen(connection: Connection, files: Mapping[str, Path]) -> Queries:
    """The queries to train from: a file's where one is given, else the shop's own that are live,
    else the default ones. `files` is by `interactions`, `users` and `items`.
    """
    current = current_queries(connection)
    base = current if _is_custom(connection) and current else default_queries()
    return replace(base, **{name: read_query(path, name) for name, path in files.items()})


def read_query(path: Path, name: str) -> str:
    """The query in a file. Raises SourceError if it cannot be read or holds none."""
    try:
        query = cleaned(path.read_text(encoding="utf-8-sig"))  # Windows marks UTF-8
    except OSError as error:
        raise errors.SourceError(
            f"cannot read the {name} query from {path}: {error.strerror}"
        ) from error
    except UnicodeDecodeError as error:
        raise errors.SourceError(
            f"cannot read the {name} query from {path}: it is not UTF-8 text"
        ) from error
    if not _COMMENT.sub("", query).strip("; \t\r\n"):
        raise errors.SourceError(
            f"{path} holds no query; write a SELECT as in sql/training/{name}.sql"
        )
    return query


def install(connection: Connection) -> None:
    """Create the views where one is missing; follow an edited default, keep a shop's own."""
    current = current_queries(connection)
    wanted = current if current is not None and _is_custom(connection) else default_queries()
    if wanted != current or schema.missing_views(connection):
        set_sources(connection, wanted)


def _is_custom(connection: Connection) -> bool:
    row = connection.execute(
        "SELECT value = 'custom' FROM tterec.schema_state WHERE key = 'sources'"
    ).fetchone()
    return row == (True,)


def set_sources(connection: Connection, queries: Queries) -> None:
    """(Re-)create the source views and those with bigint ids over them.

    Runs in the caller's transaction: readers see the old views or the new ones. Raises
    SourceError, naming the query, where one is not valid or lacks a column.
    """
    try:
        drop = f"DROP VIEW IF EXISTS {', '.join(_VIEWS)}".encode()
        locks.in_short_waits(connection, lambda: connection.execute(drop))
    except pg.DependentObjectsStillExist as error:
        raise errors.SourceError(
            f"the source views cannot be replaced: {' '.join(str(error).split())}; drop what is "
            "built on them and try again"
        ) from error
    for name in NAMES:
        with refused(name), connection.transaction():
            # In binary mode the server takes one statement and refuses a second.
            connection.execute(
                f"CREATE VIEW tterec.source_{name} AS\n{queries.body(name)}\n".encode(),
                binary=True,
            )
    columns = {name: view_columns(connection, name) for name in NAMES}
    for view in _interactions_views(columns):
        connection.execute(view)
    connection.execute(_catalogue_view(columns["items"]))
    if roles.reader_exists(connection):
        connection.execute(f"GRANT SELECT ON {', '.join(_VIEWS)} TO {roles.READER}".encode())
    for key, value in [("sources", queries.origin)] + [
        (f"source_{n}", queries.body(n)) for n in NAMES
    ]:
        connection.execute(
            "INSERT INTO tterec.schema_state (key, value) VALUES (%s, %s)"
            " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
            (key, value),
        )


@contextmanager
def refused(name: str) -> Iterator[None]:
    """Turn what Postgres says of a wrong query into a SourceError that names the query."""
    try:
        yield
    except (DataError, ProgrammingError, NotSupportedError, InternalError) as error:
        said = " ".join(str(error).split())
        raise errors.SourceError(f"the {name} query is refused by Postgres: {said}") from error


def view_columns(connection: Connection, name: str) -> dict[str, str]:
    """Column names of a source view, in order, with their SQL types (`text`, `bigint`, ...).

    A domain counts as what it is based on.
    """
    rows = connection.execute(
        "WITH RECURSIVE based AS ("
        "  SELECT attnum, attname, atttypid AS type FROM pg_attribute"
        "  WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped"
        "  UNION ALL SELECT attnum, attname, t.typbasetype"
        "  FROM based JOIN pg_type t ON t.oid = based.type WHERE t.typbasetype <> 0"
        ") SELECT attname, format_type(type, NULL)"
        " FROM based JOIN pg_type t ON t.oid = type AND t.typbasetype = 0 ORDER BY attnum",
        (f"tterec.source_{name}",),
    ).fetchall()
    return dict(rows)


def example_user(connection: Connection) -> str:
    """The id, as text, of some user with interactions; "USER" where there is none."""
    row = connection.execute(
        "SELECT user_id::text FROM tterec.source_interactions LIMIT 1"
    ).fetchone()
    return "USER" if row is None else str(row[0])


INTEGER_TYPES = ("smallint", "integer", "bigint")
NUMBER_TYPES = (*INTEGER_TYPES, "real", "double precision", "numeric")
TEXT_TYPES = ("text", "character varying", "character", "uuid")


def is_text_id(columns: dict[str, str], name: str, column: str) -> bool:
    """Whether an id column is text, to be mapped to bigint. Raises SourceError if unusable."""
    kind = columns.get(column)
    if kind is None:
        raise errors.SourceError(
            f"the {name} query returns no column {column}; it returns {', '.join(columns)}"
        )
    if kind not in INTEGER_TYPES + TEXT_TYPES:
        raise errors.SourceError(
            f"{column} of the {name} query is {kind}; cast it to bigint or text"
        )
    return kind in TEXT_TYPES


def _interactions_views(columns: dict[str, dict[str, str]]) -> list[sql.Composed]:
    """`interactions`, by tterec's numbers, and `named_interactions`, by the shop's own user ids."""
    mine = columns["interactions"]
    if "rating" not in mine:
        raise errors.SourceError(
            f"the interactions query returns no column rating; it returns {', '.join(mine)}; "
            "where nobody rates, add: NULL::real AS rating"
        )
    user_id, of_user = "s.user_id", ""
    if is_text_id(mine, "interactions", "user_id"):
        user_id = "user_keys.user_id"
        of_user = f" JOIN tterec.user_keys ON {_has_key('user', mine)}"
    item_id, of_item = "s.item_id::bigint", ""
    if is_text_id(mine, "interactions", "item_id"):
        item_id = "item_keys.item_id"
        of_item = " JOIN tterec.item_keys ON item_keys.key = s.item_id::text"
    rated_at = "s.rated_at::timestamptz" if "rated_at" in mine else "NULL::timestamptz"
    rating = "s.rating::real"
    if mine["rating"] in NUMBER_TYPES:
        # Training refuses others, NaN too; one that came later is no reason to recommend nothing.
        rating = f"CASE WHEN s.rating BETWEEN 0 AND 10 THEN {rating} END"
    rest = f"{item_id} AS item_id, {rating} AS rating, {rated_at} AS rated_at"
    return [  # every part is ours, none is a caller's
        sql.SQL(
            f"CREATE VIEW tterec.{name} AS SELECT {user}, {rest}"
            f" FROM tterec.source_interactions s{joins}"
        ).format()
        for name, user, joins in (
            ("interactions", f"{user_id} AS user_id", of_user + of_item),
            ("named_interactions", "s.user_id AS name", of_item),
        )
    ]


def _has_key(of: str, columns: dict[str, str]) -> str:
    """SQL: a row of `s` has the key. The id stands alone, so that the shop's index on it serves.

    For the same reason integers are not cast to bigint in the views: they compare as they are.
    """
    column, key = f"s.{of}_id", f"{of}_keys.key"
    compared = {
        "uuid": f"CASE WHEN pg_input_is_valid({key}, 'uuid') THEN {key}::uuid END",
        "character": f"{key}::bpchar",
    }
    return f"{column} = {compared.get(columns[f'{of}_id'], key)}"


def _catalogue_view(items: dict[str, str]) -> sql.Composed:
    title = "s.title::text" if "title" in items else "NULL::text"
    if is_text_id(items, "items", "item_id"):
        id_, key = "item_keys.item_id", "item_keys.key"
        join = f" JOIN tterec.item_keys ON {_has_key('item', items)}"
    else:
        id_, key, join = "s.item_id", "s.item_id::text", ""
    isbn = "s.isbn::text" if "isbn" in items else key
    return sql.SQL(
        f"CREATE VIEW tterec.catalogue AS SELECT {id_} AS item_id, {isbn} AS isbn,"
        f" {title} AS title FROM tterec.source_items s{join}"
    ).format()
