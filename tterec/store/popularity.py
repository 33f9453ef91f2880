"""How popular items are, as a generation has it: counted again where interactions came or went."""

from __future__ import annotations

from collections.abc import Sequence

from tterec.database.connection import Connection

_STORE = (
    " ON CONFLICT (generation, item_id) DO UPDATE SET interactions = excluded.interactions,"
    " ratings = excluded.ratings, mean_rating = excluded.mean_rating, score = excluded.score"
)


def changed(connection: Connection, generation: int) -> list[int]:
    """The items whose interactions are not what the generation counted, ascending."""
    rows = connection.execute(
        "SELECT n.item_id FROM tterec.popularity() n"
        " LEFT JOIN tterec.item_popularity p ON p.generation = %s AND p.item_id = n.item_id"
        " WHERE (n.interactions, n.ratings, n.mean_rating)"
        " IS DISTINCT FROM (p.interactions, p.ratings, p.mean_rating) ORDER BY 1",
        (generation,),
    ).fetchall()
    return [int(row[0]) for row in rows]


EPSILON = 0.0005
"""By how much a score, from 0 to 10, may be off before it is written again."""


def drifted(connection: Connection, generation: int) -> list[int]:
    """The items whose score is not the one that today's mean of all ratings gives, ascending."""
    rows = connection.execute(
        "SELECT n.item_id FROM tterec.popularity() n"
        " JOIN tterec.item_popularity p ON p.generation = %s AND p.item_id = n.item_id"
        " WHERE abs(n.score - p.score) > %s ORDER BY 1",
        (generation, EPSILON),
    ).fetchall()
    return [int(row[0]) for row in rows]


def recount(connection: Connection, generation: int, ids: Sequence[int]) -> None:
    """Count these items again, as `tterec.popularity()` does; the mean of all ratings is that of
    the generation's counts."""
    connection.execute(
        "WITH overall AS MATERIALIZED (SELECT sum(mean_rating::float8 * ratings)"
        "   / nullif(sum(ratings), 0) AS mean, 50::float8 AS prior"
        "  FROM tterec.item_popularity WHERE generation = %(n)s),"
        " counted AS (SELECT asked.id, count(i.item_id) AS interactions,"
        "   count(i.rating) AS ratings, coalesce(sum(i.rating::float8), 0) AS total"
        "  FROM unnest(%(ids)s::bigint[]) AS asked (id)"
        "   LEFT JOIN tterec.interactions i ON i.item_id = asked.id"
        "  WHERE EXISTS (SELECT FROM tterec.catalogue c WHERE c.item_id = asked.id)"
        "  GROUP BY asked.id)"
        " INSERT INTO tterec.item_popularity AS p"
        "  (generation, item_id, interactions, ratings, mean_rating, score)"
        " SELECT %(n)s, c.id, c.interactions, c.ratings, c.total / nullif(c.ratings, 0),"
        "  CASE WHEN o.mean IS NULL AND c.ratings = 0"
        "    THEN 10 * c.interactions / (c.interactions + o.prior)"
        "   ELSE (c.total + o.prior * coalesce(o.mean, c.total / nullif(c.ratings, 0)))"
        "    / (c.ratings + o.prior) END"
        f" FROM counted c CROSS JOIN overall o{_STORE}".encode(),
        {"n": generation, "ids": list(ids)},
    )
