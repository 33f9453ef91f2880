"""Plants a generation without training: given or random vectors, in the tables of its own."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tterec.database import vectors as wire
from tterec.database.connection import Connection
from tterec.database.pgvector import extension_schema
from tterec.records import TrainedVectors

# Shaped like trained ones: the better the rating, the more a book counts; unrated in between.
HISTORY_WEIGHTS = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 0.6])


def plant_books(connection: Connection, count: int) -> NDArray[np.int64]:
    """Books 1..count with ISBN and title; their ids."""
    connection.execute(
        "INSERT INTO tterec.books (book_id, isbn, title)"
        " SELECT i, to_char(i, 'FM0000000000'), 'Book ' || i FROM generate_series(1, %s) i",
        (count,),
    )
    return np.arange(1, count + 1)


def plant_ratings(
    connection: Connection, user_id: int, book_ids: Sequence[int], ratings: Sequence[float | None]
) -> None:
    """One user, created if new, and their ratings, each a minute newer than the one before."""
    connection.execute(
        "INSERT INTO tterec.users (user_id) VALUES (%s) ON CONFLICT DO NOTHING", (user_id,)
    )
    connection.execute(
        "INSERT INTO tterec.ratings (user_id, book_id, rating, rated_at)"
        " SELECT %s, book_id, rating, timestamptz '2024-01-01' + n * interval '1 minute'"
        " FROM unnest(%s::bigint[], %s::real[]) WITH ORDINALITY AS given (book_id, rating, n)",
        (user_id, [int(b) for b in book_ids], list(ratings)),
    )


def random_vectors(
    item_ids: NDArray[np.int64],
    user_ids: Sequence[int] = (),
    *,
    dim: int = 16,
    normalised: bool = True,
    scale: float = 1.0,
    max_history: int = 200,
    seed: int = 0,
) -> TrainedVectors:
    """Vectors drawn from a normal distribution; item embeddings of norm 1 if normalised.

    Not normalised, `scale` multiplies the item embeddings.
    """
    random = np.random.default_rng(seed)
    items = random.normal(size=(len(item_ids), dim))
    items = items / np.linalg.norm(items, axis=1, keepdims=True) if normalised else items * scale
    return TrainedVectors(
        item_ids=np.asarray(item_ids, dtype=np.int64),
        item_embeddings=items.astype(np.float32),
        history_vectors=random.normal(size=(len(item_ids), dim)).astype(np.float32),
        user_ids=np.asarray(user_ids, dtype=np.int64),
        profile_vectors=random.normal(size=(len(user_ids), dim)).astype(np.float32),
        default_profile=(random.normal(size=dim) / 4).astype(np.float32),
        history_weights=HISTORY_WEIGHTS,
        normalised=normalised,
        max_history=max_history,
    )


def plant(connection: Connection, vectors: TrainedVectors, *, ef_search: int = 100) -> int:
    """Publish the vectors as a new generation and promote it; its number."""
    generation = _register(connection, vectors, ef_search)
    tables = (
        ("item_vectors", "item_id", vectors.item_ids, vectors.item_embeddings),
        ("history_vectors", "item_id", vectors.item_ids, vectors.history_vectors),
        ("user_vectors", "user_id", vectors.user_ids, vectors.profile_vectors),
    )
    vector = f"{extension_schema(connection).as_string(connection)}.vector"
    for name, key, ids, matrix in tables:
        table = f"tterec.{name}_{generation}"
        connection.execute(
            f"CREATE TABLE {table} ({key} bigint, embedding {vector}({vectors.dim}))".encode()
        )
        copied = f"COPY {table} ({key}, embedding) FROM STDIN (FORMAT binary)"
        with connection.cursor().copy(copied.encode()) as copy:
            for chunk in wire.to_copy(ids, matrix):
                copy.write(chunk)
        connection.execute(f"ALTER TABLE {table} ADD PRIMARY KEY ({key})".encode())
    connection.execute(
        f"CREATE INDEX ON tterec.item_vectors_{generation} USING hnsw"
        f" (embedding {extension_schema(connection).as_string(connection)}.vector_ip_ops)".encode()
    )
    for name, *_ in tables:
        connection.execute(f"ANALYZE tterec.{name}_{generation}".encode())
    connection.execute(
        "INSERT INTO tterec.item_popularity"
        " (generation, item_id, interactions, ratings, mean_rating, score)"
        " SELECT %s, item_id, interactions, ratings, mean_rating, score FROM tterec.popularity()",
        (generation,),
    )
    connection.execute(
        "INSERT INTO tterec.active_model (generation) VALUES (%s) ON CONFLICT (only_row) DO UPDATE"
        " SET previous_generation = active_model.generation, generation = excluded.generation",
        (generation,),
    )
    return generation


def _register(connection: Connection, vectors: TrainedVectors, ef_search: int) -> int:
    row = connection.execute(
        "INSERT INTO tterec.models (status, objective, dim, normalised, max_history,"
        " history_weights, default_profile, ef_search, seed, config, sources)"
        " VALUES ('ready', %s, %s, %s, %s, %s, %s, %s, 0, %s, '{}') RETURNING generation",
        (
            "softmax" if vectors.normalised else "mse",
            vectors.dim,
            vectors.normalised,
            vectors.max_history,
            vectors.history_weights.tolist(),
            vectors.default_profile.tolist(),
            ef_search,
            json.dumps({}),
        ),
    ).fetchone()
    assert row is not None
    return int(row[0])
