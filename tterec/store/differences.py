"""Which rows of the sources differ from what a generation has embedded."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import sql

from tterec.database.connection import Connection
from tterec.store import digests, keys, kinds, reading, registry, sources, vector_tables
from tterec.store.kinds import Kinds, QueryColumn
from tterec.store.sources import Queries


@dataclass(frozen=True)
class LiveSources:
    """The source views as they are, and what a generation makes of them.

    columns: the feature columns of users and items that the generation knows, by query.
    """

    queries: Queries
    user: keys.Id
    item: keys.Id
    columns: dict[str, list[QueryColumn]]

    def id_of(self, name: str) -> keys.Id:
        """The id column of `users` or `items`."""
        return self.user if name == "users" else self.item

    @property
    def default(self) -> bool:
        """Whether the rows are those of tterec's own tables, under the ids that these have."""
        return self.queries.origin == "default"


_VIEWS = Queries(*(f"SELECT * FROM tterec.source_{name}" for name in sources.NAMES))


def live_sources(connection: Connection, generation: int) -> LiveSources:
    """What the views return now. Raises SourceError for a column of another type than it was."""
    columns = reading.described(connection, _VIEWS)
    trained = registry.kinds(connection, generation)
    kinds.check_kinds(reading.kinds_of(columns), trained, generation)
    user, item = reading.ids_of(columns)
    return LiveSources(
        sources.current_queries(connection) or sources.default_queries(),
        user,
        item,
        {name: _known(name, columns[name], trained) for name in ("users", "items")},
    )


def _known(name: str, columns: dict[str, QueryColumn], trained: Kinds) -> list[QueryColumn]:
    """The feature columns, without those that came to the view after the training."""
    found = kinds.features(name, columns)
    return [column for column in found if column.name in trained.get(name, {})]


def view(name: str) -> str:
    """The query whose rows are embedded."""
    return _VIEWS.body(name)


def add_keys(connection: Connection, live: LiveSources) -> None:
    """Give new text ids their bigint."""
    for id_, name in ((live.user, "users"), (live.item, "items")):
        if id_.is_text:
            keys.add_missing(connection, id_, _VIEWS, _VIEWS.body(name))


def changed_items(connection: Connection, generation: int, live: LiveSources) -> list[int]:
    """The items that are new, changed or gone, ascending."""
    known = sql.SQL(
        "SELECT v.item_id AS id, st.digest, true AS embedded FROM {} v"
        " LEFT JOIN tterec.item_state st ON st.generation = {} AND st.item_id = v.item_id"
    ).format(vector_tables.table("item_vectors", generation), sql.Literal(generation))
    return _changed(connection, "items", live.item, known)


def changed_users(connection: Connection, generation: int, live: LiveSources) -> list[int]:
    """The users that are new, changed or gone, ascending; also those gone that another generation
    of the same queries still knows.

    Users who are only in the interactions have no vector: they are known by a digest of zeros,
    and no change while they stay there.
    """
    known = sql.SQL(
        "SELECT coalesce(v.user_id, st.user_id) AS id, st.digest, v.user_id IS NOT NULL AS embedded"
        " FROM {} v FULL JOIN"
        " (SELECT user_id, digest FROM tterec.user_state WHERE generation = {}) st"
        " ON st.user_id = v.user_id"
    ).format(vector_tables.table("user_vectors", generation), sql.Literal(generation))
    found = set(_changed(connection, "users", live.user, known))
    return sorted(found | set(_gone_elsewhere(connection, generation, live)))


def unnumbered(connection: Connection, name: str, live: LiveSources) -> int:
    """How many rows of `users` or `items` have a text id that came after the last update."""
    id_ = live.id_of(name)
    if not id_.is_text:
        return 0
    row = connection.execute(
        f"SELECT count(*) FROM ({view(name)}) s{id_.join}"
        f" WHERE s.{id_.column} IS NOT NULL AND {id_.value} IS NULL".encode()
    ).fetchone()
    assert row is not None
    return int(row[0])


def count(connection: Connection, name: str) -> int:
    """How many rows `users` or `items` returns now."""
    row = connection.execute(f"SELECT count(*) FROM ({view(name)}) s".encode()).fetchone()
    assert row is not None
    return int(row[0])


def _changed(connection: Connection, name: str, id_: keys.Id, known: sql.Composed) -> list[int]:
    # An id that the source returns twice is refused when its row is read.
    statement = (
        "SELECT DISTINCT coalesce(f.id, k.id) FROM"
        f" (SELECT {id_.value}::bigint AS id, {digests.AS_UUID} AS digest"
        f" FROM ({view(name)}) s{id_.join} WHERE {id_.value} IS NOT NULL) f"
        f" FULL JOIN ({known.as_string(connection)}) k ON k.id = f.id"
        " WHERE (f.id IS NOT NULL AND f.digest IS DISTINCT FROM k.digest)"
        f" OR (f.id IS NULL AND (k.embedded OR {_absent(name)})) ORDER BY 1"
    )
    with connection.transaction():
        digests.fix_texts(connection)
        rows = connection.execute(statement.encode()).fetchall()
    return [int(row[0]) for row in rows]


def _absent(name: str) -> str:
    if name == "items":
        return "true"
    return "NOT EXISTS (SELECT FROM tterec.interactions i WHERE i.user_id = k.id)"


def _gone_elsewhere(connection: Connection, generation: int, live: LiveSources) -> list[int]:
    others = [
        one.generation
        for one in registry.list_generations(connection)
        if one.generation != generation
        and one.status == "ready"
        and registry.queries(connection, one.generation) == live.queries
    ]
    there = present(live, "k.user_id")
    # Who came after the training, by interactions alone, is known by their list.
    rows = connection.execute(
        "SELECT k.user_id FROM ("
        "SELECT user_id FROM tterec.user_state WHERE generation = ANY (%s)"
        " UNION SELECT user_id FROM tterec.user_lists WHERE generation = ANY (%s)"
        f") k WHERE NOT {there}".encode(),
        (others, [generation, *others]),
    ).fetchall()
    return [int(row[0]) for row in rows]


def present(live: LiveSources, user: str) -> str:
    """SQL condition: the user whose bigint is the expression `user` is in one of the sources."""
    id_ = live.user
    return (
        f"(EXISTS (SELECT FROM ({view('users')}) s{id_.join} WHERE {id_.value} = {user})"
        f" OR EXISTS (SELECT FROM tterec.interactions i WHERE i.user_id = {user}))"
    )
