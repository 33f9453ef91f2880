"""Items of a live generation written anew, a batch at a time, while others read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from psycopg import sql

from tterec.database import sparse_vectors, vectors
from tterec.database.connection import Connection
from tterec.database.pgvector import extension_schema
from tterec.records import FeatureTable
from tterec.store import digests, sources, vector_tables
from tterec.store.differences import LiveSources, view
from tterec.store.read_features import read_features
from tterec.store.state_tables import Traits

ItemTexts = Mapping[int, Sequence[tuple[str, str]]]
"""By item id, the features and normalised values that it may share with others."""


@dataclass(frozen=True)
class Counts:
    """How many rows were new, changed and deleted."""

    new: int = 0
    changed: int = 0
    deleted: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.new + other.new, self.changed + other.changed, self.deleted + other.deleted
        )


def read(
    connection: Connection, name: str, live: LiveSources, ids: Sequence[int]
) -> tuple[FeatureTable, list[int]]:
    """The rows of `users` or `items` with these ids as they are now, and the ids without a row."""
    digests.fix_texts(connection)
    with sources.refused(name):
        table = read_features(
            connection, name, view(name), live.id_of(name), live.columns[name], only=ids
        )
    # A vector column that is NULL in all of these rows has no width: the towers take it as missing.
    columns = tuple(c for c in table.columns if c.kind != "vector" or c.values.shape[1])
    return replace(table, columns=columns), sorted(set(ids) - set(table.ids.tolist()))


def keep_digests(connection: Connection, generation: int, table: FeatureTable) -> None:
    """Store what the items' rows are now."""
    assert table.digests is not None
    connection.execute(
        "INSERT INTO tterec.item_state (generation, item_id, digest)"
        " SELECT %s, * FROM unnest(%s::bigint[], %s::uuid[])"
        " ON CONFLICT (generation, item_id) DO UPDATE SET digest = excluded.digest",
        (generation, table.ids, [row.tobytes().hex() for row in table.digests]),
    )


def write_vectors(
    connection: Connection,
    kind: str,
    generation: int,
    ids: NDArray[np.int64],
    matrix: NDArray[np.float32],
) -> int:
    """Insert or replace vectors, where they differ; how many are new."""
    # An update of a row under an HNSW index is dear, also where nothing changes.
    extension = extension_schema(connection)
    statement = sql.SQL(
        "WITH given AS (SELECT id, embedding::{ext}.vector AS embedding"
        " FROM unnest(%s::bigint[], %s::text[]) AS g (id, embedding)),"
        " written AS (INSERT INTO {table} AS t ({id}, embedding) SELECT id, embedding FROM given"
        " ON CONFLICT ({id}) DO UPDATE SET embedding = excluded.embedding"
        " WHERE t.embedding OPERATOR({ext}.<>) excluded.embedding RETURNING t.{id} AS id)"
        " SELECT count(*) FROM given"
        " WHERE NOT EXISTS (SELECT FROM {table} t WHERE t.{id} = given.id)"
    ).format(
        ext=extension,
        table=vector_tables.table(kind, generation),
        id=sql.Identifier(vector_tables.KINDS[kind]),
    )
    texts = [vectors.to_text(row) for row in matrix]
    row = connection.execute(statement, (ids, texts)).fetchone()
    assert row is not None
    return int(row[0])


def write_evidence(
    connection: Connection, generation: int, width: int, traits: Traits, texts: ItemTexts
) -> None:
    """Give items their place in the second stage.

    A new one speaks, and is spoken for, by the values that it shares with others alone. One of the
    training keeps what other items say for it; its values are those that it has now, unless the
    generation has not kept which values speak.
    """
    found = traits.find([pair for pairs in texts.values() for pair in pairs])
    table, extension = (
        vector_tables.table(vector_tables.EVIDENCE, generation),
        extension_schema(connection),
    )
    rows = connection.execute(
        sql.SQL("SELECT item_id, weights FROM {} WHERE item_id = ANY (%s)").format(table),
        (list(texts),),
        binary=True,
    ).fetchall()
    weights = sparse_vectors.decode([row[1] for row in rows])
    kept: dict[int, list[tuple[int, float]]] = {}
    for place, (item, _) in enumerate(rows):
        part = slice(weights.offsets[place], weights.offsets[place + 1])
        entries = zip(
            (weights.positions[part] + 1).tolist(), weights.values[part].tolist(), strict=True
        )
        kept[item] = [pair for pair in entries if traits.first is None or pair[0] < traits.first]
    items, sparse, listed = [], [], []
    for item, pairs in texts.items():
        if item in kept and traits.first is None:
            continue
        mine = sorted(found[pair] for pair in set(pairs) if pair in found)
        heard = ",".join(f"{at}:{weight!r}" for at, weight in (*kept.get(item, []), *mine))
        items.append(item)
        sparse.append(f"{{{heard}}}/{max(width, 1)}")
        listed.append(f"{{{','.join(str(at) for at, _ in mine)}}}")
    connection.execute(
        sql.SQL(
            "INSERT INTO {table} AS t (item_id, place, weights, leads, traits)"
            " SELECT id, NULL, weights::{ext}.sparsevec, '{{}}', traits::bigint[]"
            " FROM unnest(%s::bigint[], %s::text[], %s::text[]) AS g (id, weights, traits)"
            " ON CONFLICT (item_id) DO UPDATE SET weights = excluded.weights,"
            " traits = excluded.traits WHERE t.traits <> excluded.traits"
        ).format(table=table, ext=extension),
        (items, sparse, listed),
    )


def delete(connection: Connection, generation: int, ids: Sequence[int], *, ranked: bool) -> int:
    """Remove what a generation holds of items that are gone; how many had a vector."""
    kinds = ["history_vectors", *([vector_tables.EVIDENCE] if ranked else []), "item_vectors"]
    deleted = 0
    for kind in kinds:
        deleted = connection.execute(
            sql.SQL("DELETE FROM {} WHERE item_id = ANY (%s)").format(
                vector_tables.table(kind, generation)
            ),
            (list(ids),),
        ).rowcount
    for table in ("item_state", "item_popularity", "item_clusters"):
        connection.execute(
            f"DELETE FROM tterec.{table} WHERE generation = %s AND item_id = ANY (%s)".encode(),
            (generation, list(ids)),
        )
    return deleted
