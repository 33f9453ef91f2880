"""A generation's table of item-item evidence: for each item what speaks for it when it was met."""

from __future__ import annotations

import numpy as np
from psycopg import sql

from tterec.database import sparse_vectors
from tterec.database.connection import Connection
from tterec.database.pgvector import extension_schema
from tterec.records import Progress, ProgressCallback, Ranker, ignore
from tterec.store.vector_tables import EVIDENCE, finish, table


def create(
    connection: Connection, generation: int, ranker: Ranker, progress: ProgressCallback = ignore
) -> None:
    """Create and fill the table, with its key and statistics, in the caller's transaction.

    `place` is where an item stands in the sparse vectors, from 1 (NULL: it came after the training,
    and only its traits speak), and `traits` are the places of its traits; `leads` are the items it
    speaks for most.
    """
    name, dim = table(EVIDENCE, generation), max(ranker.width, 1)
    connection.execute(
        sql.SQL(
            "CREATE TABLE {} (item_id bigint NOT NULL, place int,"
            " weights {}.sparsevec({}) NOT NULL, leads bigint[] NOT NULL, traits bigint[] NOT NULL)"
        ).format(name, extension_schema(connection), sql.Literal(dim))
    )
    progress(Progress("write evidence", 0, 1))
    statement = sql.SQL("COPY {} FROM STDIN (FORMAT binary, FREEZE)").format(name)
    rows = sparse_vectors.Rows(ranker.offsets, ranker.sources, ranker.weights)
    leads = [row[row >= 0] for row in ranker.leads]
    traits = np.split(ranker.traits + 1, ranker.trait_offsets[1:-1])
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for block in sparse_vectors.to_copy(ranker.item_ids, rows, dim, (leads, traits)):
            copy.write(block)
    finish(connection, name, "item_id")
    connection.execute(sql.SQL("ANALYZE {}").format(name))
    progress(Progress("write evidence", 1, 1))
