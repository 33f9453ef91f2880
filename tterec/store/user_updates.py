"""Users of a live generation: written anew, or forgotten in every table."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from tterec.database.connection import Connection
from tterec.records import FeatureTable
from tterec.store import keys, registry, user_lists, vector_tables
from tterec.store.differences import LiveSources, present


def keep_digests(connection: Connection, generation: int, table: FeatureTable) -> None:
    """Store what the users' rows are now. Call it before their vectors are written: who has none
    yet came after the training."""
    assert table.digests is not None
    connection.execute(
        sql.SQL(
            "INSERT INTO tterec.user_state (generation, user_id, digest, learned)"
            " SELECT %s, id, digest, EXISTS (SELECT FROM {} v WHERE v.user_id = id)"
            " FROM unnest(%s::bigint[], %s::uuid[]) AS g (id, digest)"
            " ON CONFLICT (generation, user_id) DO UPDATE SET digest = excluded.digest"
        ).format(vector_tables.table("user_vectors", generation)),
        (generation, table.ids, [row.tobytes().hex() for row in table.digests]),
    )


def without_row(
    connection: Connection, generation: int, live: LiveSources, ids: Sequence[int]
) -> list[int]:
    """Of users who are not in the users query, those who are in no source at all.

    The others lose their profile, and stay known by their interactions.
    """
    rows = connection.execute(
        f"SELECT id FROM unnest(%s::bigint[]) id WHERE NOT {present(live, 'id')}".encode(),
        (list(ids),),
    ).fetchall()
    gone = [int(row[0]) for row in rows]
    stay = sorted(set(ids) - set(gone))
    connection.execute(
        sql.SQL("DELETE FROM {} WHERE user_id = ANY (%s)").format(
            vector_tables.table("user_vectors", generation)
        ),
        (stay,),
    )
    connection.execute(
        "UPDATE tterec.user_state SET digest = '00000000-0000-0000-0000-000000000000'"
        " WHERE generation = %s AND user_id = ANY (%s)",
        (generation, stay),
    )
    return gone


def forget(connection: Connection, live: LiveSources, ids: Sequence[int]) -> int:
    """Remove users who are in no source from every table; how many of them any generation knew.

    Each generation that learned from them counts them. Those of other queries may mean somebody
    else by the same number: they are left, and so are the keys of text ids; see `shops`.
    """
    return forget_in(connection, _of_the_same_shop(connection, live), live.user, ids)


def _of_the_same_shop(connection: Connection, live: LiveSources) -> list[int]:
    return [
        one
        for one in vector_tables.generations_with_tables(connection)
        if one == registry.live(connection) or registry.queries(connection, one) == live.queries
    ]


def forget_interactions(
    connection: Connection, live: LiveSources, items: Sequence[int] | None = None
) -> None:
    """Remove what generations were validated by and the live source no longer returns: all of it,
    or that with these items. Generations of other queries keep theirs."""
    generations = _of_the_same_shop(connection, live)
    pairs = connection.execute(
        "SELECT h.user_id, h.item_id FROM tterec.held_out h WHERE h.generation = ANY (%(mine)s)"
        " AND (%(items)s::bigint[] IS NULL OR h.item_id = ANY (%(items)s))"
        " AND NOT EXISTS (SELECT FROM tterec.interactions i"
        "  WHERE i.user_id = h.user_id AND i.item_id = h.item_id)",
        {"mine": generations, "items": None if items is None else list(items)},
    ).fetchall()
    if pairs:
        # As prune does: first the registry's rows.
        connection.execute("SELECT FROM tterec.models ORDER BY generation FOR NO KEY UPDATE")
        connection.execute(
            "DELETE FROM tterec.held_out WHERE generation = ANY (%s) AND (user_id, item_id) IN"
            " (SELECT * FROM unnest(%s::bigint[], %s::bigint[]))",
            (generations, [user for user, _ in pairs], [item for _, item in pairs]),
        )


def forget_in(
    connection: Connection, generations: Sequence[int], user: keys.Id, ids: Sequence[int]
) -> int:
    """Remove these users from these generations, which are all of one shop; how many they knew."""
    if not ids:
        return 0
    # As prune does: first the registry's rows, then the tables, which then stay: those that are
    # there now.
    connection.execute("SELECT FROM tterec.models ORDER BY generation FOR NO KEY UPDATE")
    there = vector_tables.generations_with_tables(connection)
    generations = [one for one in generations if one in there]
    given = {"ids": list(ids), "generations": generations}
    user_lists.drop(connection, generations, ids)
    known = connection.execute(
        "WITH gone AS (DELETE FROM tterec.user_state WHERE user_id = ANY (%(ids)s)"
        "  AND generation = ANY (%(generations)s) RETURNING generation, user_id, learned),"
        " counted AS (UPDATE tterec.models m SET forgotten_users = forgotten_users + g.count"
        "  FROM (SELECT generation, count(*) FROM gone WHERE learned GROUP BY generation) g"
        "  WHERE m.generation = g.generation)"
        " SELECT generation, user_id FROM gone",
        given,
    ).fetchall()
    found = {int(user_id) for _, user_id in known}
    for generation in generations:
        rows = connection.execute(
            sql.SQL("DELETE FROM {} WHERE user_id = ANY (%(ids)s) RETURNING user_id").format(
                vector_tables.table("user_vectors", generation)
            ),
            given,
        ).fetchall()
        found |= {int(row[0]) for row in rows}
        # Whose row has no digest was learned from before there were digests.
        digested = {user_id for one, user_id in known if one == generation}
        connection.execute(
            "UPDATE tterec.models SET forgotten_users = forgotten_users + %s WHERE generation = %s",
            (len({row[0] for row in rows} - digested), generation),
        )
        connection.execute(
            "DELETE FROM tterec.held_out WHERE generation = %s AND user_id = ANY (%s)",
            (generation, list(ids)),
        )
    connection.execute(
        "DELETE FROM tterec.changes WHERE kind = 'user' AND change_id IN"
        " (SELECT change_id FROM tterec.changes WHERE kind = 'user' AND id = ANY (%(ids)s)"
        "  FOR UPDATE SKIP LOCKED)",
        given,
    )
    if not user.is_text:
        # A line that was not loaded names a user in one of its fields; which one, nobody knows.
        alternatives = "|".join(str(id_) for id_ in ids)
        connection.execute(
            "DELETE FROM tterec.rejected_rows WHERE raw ~ %s",
            (rf"(^|[,;])\s*\"?\s*0*({alternatives})\s*\"?\s*([,;]|\s*$)",),
        )
    return len(found)
