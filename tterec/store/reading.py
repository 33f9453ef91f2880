"""Reading the three sources into arrays, as they stood at one moment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from tterec import errors
from tterec.database.connection import Connection
from tterec.records import FeatureTable, Interactions, Progress, ProgressCallback, ignore
from tterec.store import digests, keys, kinds, sources
from tterec.store.kinds import Kinds, QueryColumn
from tterec.store.read_features import read_features
from tterec.store.read_interactions import check_columns, read_interactions
from tterec.store.sources import Queries

_Columns = dict[str, dict[str, QueryColumn]]


@dataclass(frozen=True)
class TrainingData:
    """What the sources returned, all of one snapshot.

    interactions: ordered by user, then item; those whose item is in `items`. `dropped` counts
    the others. kinds: of every column, by query. read_at: the snapshot's moment.
    """

    interactions: Interactions
    users: FeatureTable
    items: FeatureTable
    kinds: Kinds
    read_at: datetime
    dropped: int


def read_sources(
    connection: Connection,
    queries: Queries,
    progress: ProgressCallback = ignore,
    columns: _Columns | None = None,
) -> TrainingData:
    """Read what the three queries return; they need not be those of the views.

    New text ids are first given their bigint, which is committed; then everything is read in
    one read-only snapshot. `connection` must be in autocommit mode. Raises SourceError, naming
    query and column, where a query does not return what it should.
    """
    columns = columns or described(connection, queries)
    user, item = ids_of(columns)
    for id_, name in ((user, "users"), (item, "items")):
        if id_.is_text:
            with sources.refused(f"interactions or {name}"):
                keys.add_missing(connection, id_, queries, queries.body(name))
    with connection.transaction():
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        digests.fix_texts(connection)
        read_at = connection.execute("SELECT now()").fetchone()
        assert read_at is not None
        tables = {}
        for id_, name in ((user, "users"), (item, "items")):
            found = kinds.features(name, columns[name])
            with sources.refused(name):
                tables[name] = read_features(
                    connection, name, queries.body(name), id_, found, progress=progress
                )
        with sources.refused("interactions"):
            kept, dropped = read_interactions(
                connection,
                queries.interactions,
                (user, item),
                has_rated_at="rated_at" in columns["interactions"],
                item_ids=tables["items"].ids,
                progress=progress,
            )
    items = tables["items"]
    _check_any_left(queries, len(kept) + dropped, len(kept), items)
    if dropped:
        progress(
            Progress(
                "read interactions",
                message=f"{dropped:,} of {dropped + len(kept):,} interactions are with items that "
                "the items query does not return; they are left out.",
            )
        )
    return TrainingData(kept, tables["users"], items, kinds_of(columns), read_at[0], dropped)


def described(connection: Connection, queries: Queries) -> _Columns:
    """The columns of the three queries, checked: ids, rating, and a kind for every feature."""
    columns = {name: kinds.describe(connection, name, queries.body(name)) for name in sources.NAMES}
    ids_of(columns)
    check_columns(columns["interactions"])
    for name in ("users", "items"):
        kinds.features(name, columns[name])
    return columns


def kinds_of(columns: _Columns) -> Kinds:
    """The kinds that the registry keeps, to be compared with the next generation's."""
    return {
        name: {column.name: column.kind for column in found.values() if column.kind}
        for name, found in columns.items()
    }


def ids_of(columns: _Columns) -> tuple[keys.Id, keys.Id]:
    """The user and the item id, each either text in both its queries or bigint in both."""
    types = {
        name: {column.name: column.sql_type for column in found.values()}
        for name, found in columns.items()
    }
    found = []
    for column, name in (("user_id", "users"), ("item_id", "items")):
        mapped, of_features = (
            sources.is_text_id(types[query], query, column) for query in ("interactions", name)
        )
        if mapped != of_features:
            raise errors.SourceError(
                f"{column} is {types['interactions'][column]} in the interactions query and "
                f"{types[name][column]} in the {name} query; cast one of them, or name the other "
                f"query, too: --interactions-sql FILE --{name}-sql FILE"
            )
        found.append(keys.Id(column, mapped))
    return found[0], found[1]


def _check_any_left(queries: Queries, interactions: int, kept: int, items: FeatureTable) -> None:
    if interactions == 0:
        mend = (
            "load some first: tterec load --users Users.csv --books Books.csv --ratings "
            "Ratings.csv; or, where they are in tables of your own: tterec train "
            "--interactions-sql FILE --users-sql FILE --items-sql FILE"
            if queries.origin == "default"
            else "see what the interactions query returns"
        )
        raise errors.SourceError(f"there are no interactions to learn from; {mend}")
    if len(items) == 0:
        raise errors.SourceError("the items query returns no rows; there is nothing to recommend")
    if kept == 0:
        raise errors.SourceError(
            f"none of the {interactions:,} interactions is with an item of the items query; "
            "compare the item_id of both queries"
        )
