"""Generations: their tables, the registry, the index's recall."""

from __future__ import annotations

import numpy as np
import psycopg
import pytest

from tests.integration.generations import plant_books, plant_ratings, random_vectors
from tterec import errors
from tterec.config import TrainingConfig
from tterec.database import vectors as wire
from tterec.database.connection import Connection, Database
from tterec.records import Progress, TrainedModel, TrainedVectors
from tterec.store import generations, registry, vector_tables
from tterec.store.recall import Probe


def publish(connection: Connection, vectors: TrainedVectors, *probes: Probe) -> int:
    """A generation with these vectors, ready to be promoted."""
    generation = generations.begin(connection, TrainingConfig(dim=vectors.dim))
    generations.publish_vectors(connection, generation, vectors, probes=probes)
    return generation


def test_published_vectors_are_those_that_were_trained(database: Database) -> None:
    vectors = random_vectors(np.arange(1, 3001), [5, 7, 9], dim=24)
    with database.connect(autocommit=True) as connection:
        generation = publish(connection, vectors)
        for kind, ids, matrix in (
            ("item_vectors", vectors.item_ids, vectors.item_embeddings),
            ("history_vectors", vectors.item_ids, vectors.history_vectors),
            ("user_vectors", vectors.user_ids, vectors.profile_vectors),
        ):
            query = f"COPY (TABLE tterec.{kind}_{generation} ORDER BY 1) TO STDOUT (FORMAT binary)"
            with connection.cursor().copy(query.encode()) as copy:
                stored_ids, stored = wire.from_copy(copy, 24)
            np.testing.assert_array_equal(stored_ids, ids)
            np.testing.assert_array_equal(stored, matrix)


def test_a_generation_has_keys_an_inner_product_index_and_statistics(database: Database) -> None:
    with database.connect(autocommit=True) as connection:
        generation = publish(connection, random_vectors(np.arange(1, 501), [1]))
        rows = connection.execute(
            "SELECT tablename, indexdef FROM pg_indexes WHERE tablename LIKE %s ORDER BY 1, 2",
            (f"%_vectors_{generation}",),
        ).fetchall()
        analysed = connection.execute(
            "SELECT reltuples::int, relallvisible > 0 FROM pg_class WHERE relname = %s",
            (f"item_vectors_{generation}",),
        ).fetchone()
    keys = [definition for _, definition in rows if "UNIQUE" in definition]
    assert len(keys) == 3
    assert any("hnsw (embedding vector_ip_ops)" in definition for _, definition in rows)
    assert analysed == (500, True)


def test_the_registry_tells_what_was_trained_from_what(database: Database) -> None:
    config = TrainingConfig(objective="mse", dim=16, seed=7)
    vectors = random_vectors(np.arange(1, 101), [1, 2], normalised=False)
    model = TrainedModel(vectors, b"weights", {"users": []}, {"ndcg@20": 0.25, "loss": float("nan")})
    with database.connect(autocommit=True) as connection:
        generation = generations.begin(connection, config, kinds={"items": {"year": "number"}})
        assert registry.info(connection, generation).status == "building"
        generations.record(connection, generation, model, counts={"interactions": 12})
        generations.publish_vectors(connection, generation, vectors)
        shown = registry.show(connection, generation)
        stored = registry.towers(connection, generation)
    assert shown["status"] == "ready"
    assert not shown["active"]
    assert shown["objective"] == "mse"
    assert shown["seed"] == 7
    assert shown["normalised"] is False
    assert shown["counts"] == {"interactions": 12, "item_vectors": 100, "user_vectors": 2}
    assert shown["metrics"] == {"ndcg@20": 0.25, "loss": None}
    assert shown["sources"]["kinds"] == {"items": {"year": "number"}}
    assert shown["sources"]["origin"] == "default"
    assert "tterec.ratings" in shown["sources"]["interactions"]
    assert {"tterec", "torch", "numpy", "postgres", "pgvector"} <= shown["versions"].keys()
    assert stored.weights == b"weights"
    assert stored.features == {"users": []}
    assert stored.config == config
