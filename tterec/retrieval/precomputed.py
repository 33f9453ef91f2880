"""Lists that `tterec precompute` made, as the SQL functions take them."""

from __future__ import annotations

from tterec.database.connection import Connection
from tterec.records import Recommendation
from tterec.retrieval.pgvector import Among, query


def listed(
    connection: Connection, user_id: int, k: int, among: Among | None = None
) -> list[Recommendation] | None:
    """The first k of a user's list, of those that pass the filters.

    None where there is no list, where it may be another one now, or where it is not long enough.
    """
    if k < 1:
        return None
    name = "listed_now" if among is None else "listed_among"
    rows = query(connection, name, among=among, user_id=user_id, k=k).fetchall()
    if len(rows) != k:  # more: a shop returns an item twice
        return None
    return [
        Recommendation(rank, book, isbn, title, round(score, 6), round(similarity, 6), source)
        for rank, book, isbn, title, score, similarity, source in rows
    ]
