"""The shops that generations were trained from, each with its three queries: who has left them."""

from __future__ import annotations

from dataclasses import dataclass

from psycopg import errors as pg
from psycopg import sql

from tterec import errors
from tterec.database.connection import Connection
from tterec.store import keys, locks, reading, registry, vector_tables
from tterec.store.differences import LiveSources
from tterec.store.sources import Queries


@dataclass(frozen=True)
class Shop:
    """Three queries, and the generations trained from them that may be served.

    user: their user id; None where they cannot be read, as their tables are gone.
    """

    queries: Queries
    user: keys.Id | None
    generations: list[int]


def other_shops(connection: Connection, live: LiveSources) -> list[Shop]:
    """Those of the ready generations of other queries than the live ones."""
    found: dict[Queries, list[int]] = {}
    tables = set(vector_tables.generations_with_tables(connection))
    for one in registry.list_generations(connection):
        queries = registry.queries(connection, one.generation)
        if one.status != "ready" or one.active or one.generation not in tables:
            continue
        if queries not in (None, live.queries):
            found.setdefault(queries, []).append(one.generation)
    return [
        Shop(queries, _user_id(connection, queries), numbers) for queries, numbers in found.items()
    ]


def _user_id(connection: Connection, queries: Queries) -> keys.Id | None:
    try:
        return reading.ids_of(reading.described(connection, queries))[0]
    except errors.SourceError:
        return None


def departed(connection: Connection, shop: Shop) -> list[int]:
    """Users that its generations know and that none of its queries returns, ascending."""
    if shop.user is None:
        return []
    known = " UNION ".join(
        [
            *(
                f"SELECT user_id FROM tterec.{table} WHERE generation = ANY "
                f"('{{{','.join(map(str, shop.generations))}}}')"
                for table in ("user_state", "user_lists")
            ),
            *(
                f"SELECT user_id FROM {_user_vectors(connection, generation)}"
                for generation in shop.generations
            ),
        ]
    )
    there = _users(shop.queries, shop.user)
    try:
        rows = connection.execute(
            f"SELECT user_id FROM ({known}) known EXCEPT {there} ORDER BY 1".encode()
        ).fetchall()
    except pg.UndefinedTable:
        if set(shop.generations) <= set(vector_tables.generations_with_tables(connection)):
            raise
        return []  # pruned a moment ago, with all they knew; those left are looked at next time
    return [int(row[0]) for row in rows]


def drop_keys(connection: Connection, live: LiveSources) -> int:
    """Delete the keys of users with a text id that none of the shops returns any more; how many.

    None while a training runs, which may be reading some, nor while a shop's tables cannot be
    read.
    """
    if locks.training_runs(connection):
        return 0
    shops = [Shop(live.queries, live.user, []), *other_shops(connection, live)]
    if any(shop.user is None for shop in shops):
        return 0
    there = "".join(
        f" AND NOT EXISTS (SELECT FROM {_users(shop.queries, shop.user)} s (id)"
        " WHERE s.id = gone.user_id)"
        for shop in shops
        if shop.user is not None and shop.user.is_text
    )
    statement = f"DELETE FROM tterec.user_keys gone WHERE true{there}"
    return connection.execute(statement.encode()).rowcount


def _users(queries: Queries, user: keys.Id) -> str:
    """SQL: the ids of the users in its queries, in parentheses."""
    return "({})".format(
        " UNION ".join(
            f"SELECT {user.value}::bigint FROM (\n{body}\n) s{user.join}"
            for body in (queries.users, queries.interactions)
        )
    )


def _user_vectors(connection: Connection, generation: int) -> str:
    return sql.Composed([vector_tables.table("user_vectors", generation)]).as_string(connection)
