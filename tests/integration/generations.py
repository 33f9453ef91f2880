"""Plants a generation without training: given or random vectors, in the tables of its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tterec.config import TrainingConfig
from tterec.database.connection import Connection
from tterec.records import Ranker, TrainedVectors
from tterec.store import generations

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


def random_ranker(
    item_ids: NDArray[np.int64],
    *,
    similarity_weight: float = 0.2,
    candidates: int = 60,
    seed: int = 5,
) -> Ranker:
    """Up to 30 weights an item, none for every tenth; up to 8 leads and up to 2 traits."""
    random = np.random.default_rng(seed)
    n = len(item_ids)
    width = n + n // 4
    lengths = np.where(np.arange(n) % 10 == 0, 0, random.integers(1, 31, n))
    sources = [np.sort(random.choice(width, length, replace=False)) for length in lengths]
    traits = [np.sort(n + random.choice(width - n, i % 3, replace=False)) for i in range(n)]
    leads = item_ids[random.integers(0, n, (n, 8))]
    leads[random.random((n, 8)) < 0.2] = -1
    return Ranker(
        item_ids=item_ids,
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        sources=np.concatenate(sources).astype(np.int64),
        weights=random.normal(0.02, 0.1, lengths.sum()).astype(np.float32),
        leads=leads,
        width=width,
        trait_offsets=np.cumsum([0, *map(len, traits)]),
        traits=np.concatenate(traits).astype(np.int64),
        similarity_weight=similarity_weight,
        unrated_weight=0.7,
        candidates=candidates,
    )


def plant(
    connection: Connection,
    vectors: TrainedVectors,
    *,
    ranker: Ranker | None = None,
    ef_search: int = 100,
) -> int:
    """Publish the vectors as a new generation and promote it; its number."""
    config = TrainingConfig(
        objective="softmax" if vectors.normalised else "mse",
        dim=vectors.dim,
        max_history=vectors.max_history,
    )
    generation = generations.begin(connection, config)
    generations.publish_vectors(connection, generation, vectors, ranker=ranker)
    connection.execute(
        "UPDATE tterec.models SET ef_search = %s WHERE generation = %s", (ef_search, generation)
    )
    generations.promote(connection, generation)
    return generation
