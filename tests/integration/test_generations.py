"""Generations: their tables, the registry, the index's recall."""

from __future__ import annotations

import dataclasses
import threading

import numpy as np
import pytest

from tests.integration.generations import plant_books, plant_ratings, random_vectors
from tterec import errors
from tterec.config import TrainingConfig
from tterec.database import memory
from tterec.database import vectors as wire
from tterec.database.connection import Connection, Database
from tterec.records import Progress, TrainedModel, TrainedVectors
from tterec.store import generations, recall, registry, vector_tables
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
    metrics = {"ndcg@20": 0.25, "loss": float("nan")}
    model = TrainedModel(vectors, b"weights", {"users": []}, metrics)
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


def unit(vector: np.ndarray) -> np.ndarray:
    """A vector of norm 1."""
    return vector / np.linalg.norm(vector)


def test_recall_is_measured_and_the_smallest_sufficient_ef_search_kept(database: Database) -> None:
    random = np.random.default_rng(1)
    vectors = random_vectors(np.arange(1, 6001), dim=64)
    probes = [
        Probe(unit(random.normal(size=64)), random.choice(6000, size=n, replace=False) + 1)
        for n in (0, 1, 5, 50, 400) * 4
    ]
    with database.connect(autocommit=True) as connection:
        generation = publish(connection, vectors, *probes)
        shown = registry.show(connection, generation)
    index = shown["metrics"]["index"]
    curve = {int(ef): value for ef, value in index["curve"].items()}
    assert index["users"] == 20
    assert list(curve) == list(recall.LADDER[: len(curve)])
    assert curve[100] < 0.99  # random vectors are the hardest
    assert list(curve.values()) == sorted(curve.values())
    assert shown["ef_search"] == index["ef_search"] == max(curve)
    assert index["recall"] >= 0.99 or max(curve) == recall.LADDER[-1]


def test_an_exact_scan_measures_as_exact(database: Database) -> None:
    """Without the index every list is right, whatever was seen: also that of who saw all but 7."""
    vectors = random_vectors(np.arange(1, 301), dim=8)
    random = np.random.default_rng(2)
    probes = [Probe(unit(random.normal(size=8)), np.arange(1, n)) for n in (1, 100, 294, 301)]
    with database.connect(autocommit=True) as connection:
        connection.execute("SET enable_indexscan = off")
        shown = registry.show(connection, publish(connection, vectors, *probes))
    assert shown["metrics"]["index"]["curve"] == {"100": 1.0}
    assert shown["metrics"]["index"]["short"] == 0
    assert shown["ef_search"] == 100


def test_a_poor_index_is_told(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recall, "LADDER", (1,))
    monkeypatch.setattr(recall, "WORRYING", 1.0)
    told: list[Progress] = []
    vectors = random_vectors(np.arange(1, 6001), dim=32)
    random = np.random.default_rng(3)
    probes = [Probe(unit(random.normal(size=32)), np.arange(0)) for _ in range(10)]
    with database.connect(autocommit=True) as connection:
        generation = generations.begin(connection, TrainingConfig(dim=32))
        generations.publish_vectors(connection, generation, vectors, told.append, probes=probes)
    assert any(one.message and "of the exact first 100" in one.message for one in told)


def test_a_failed_publication_leaves_nothing_but_its_row(database: Database) -> None:
    vectors = random_vectors(np.arange(1, 101), [1])
    broken = dataclasses.replace(vectors, item_ids=np.repeat(vectors.item_ids[:50], 2))
    with database.connect(autocommit=True) as connection:
        generation = generations.begin(connection)
        with pytest.raises(Exception, match="could not create unique index"):
            generations.publish_vectors(connection, generation, broken)
        assert vector_tables.generations_with_tables(connection) == []
        assert registry.show(connection, generation)["status"] == "building"
        assert generations.fail(connection, generation)
        assert registry.show(connection, generation)["status"] == "failed"
        with pytest.raises(errors.UnknownGeneration, match="is failed, only a ready one"):
            generations.promote(connection, generation)


def test_vectors_that_are_not_finite_are_refused(database: Database) -> None:
    vectors = random_vectors(np.arange(1, 101), [1])
    vectors.profile_vectors[0, 3] = np.nan
    with database.connect(autocommit=True) as connection:
        generation = generations.begin(connection)
        with pytest.raises(errors.TrainingError, match="user vectors are not finite"):
            generations.publish_vectors(connection, generation, vectors)


def test_popularity_is_counted_with_the_generation(database: Database) -> None:
    with database.connect(autocommit=True) as connection:
        ids = plant_books(connection, 5)
        plant_ratings(connection, 1, [1, 2], [8, None])
        plant_ratings(connection, 2, [1], [10])
        generation = publish(connection, random_vectors(ids))
        rows = connection.execute(
            "SELECT item_id, interactions, ratings, mean_rating FROM tterec.item_popularity"
            " WHERE generation = %s ORDER BY 1 LIMIT 2",
            (generation,),
        ).fetchall()
    assert rows == [(1, 2, 2, 9.0), (2, 1, 0, None)]


def test_the_reader_may_read_a_generation(database: Database) -> None:
    with database.connect(autocommit=True) as connection:
        # Default privileges cover only what the migrating role creates.
        connection.execute(
            "ALTER DEFAULT PRIVILEGES IN SCHEMA tterec REVOKE SELECT ON TABLES FROM tterec_reader"
        )
        generation = publish(connection, random_vectors(np.arange(1, 11)))
        connection.execute("SET ROLE tterec_reader")
        for kind in vector_tables.KINDS:
            connection.execute(f"SELECT * FROM tterec.{kind}_{generation}".encode())


def test_an_index_is_built_with_the_memory_it_takes_and_reports_progress(
    database: Database,
) -> None:
    told: list[Progress] = []

    def value(connection: Connection, name: str) -> str:
        row = connection.execute(f"SHOW {name}".encode()).fetchone()
        assert row is not None
        return str(row[0])

    vectors = random_vectors(np.arange(1, 8001), dim=64)
    with database.connect(autocommit=True) as watcher, database.connect() as connection:
        connection.execute("SET maintenance_work_mem = '1MB'")
        connection.commit()
        generation = generations.begin(connection)
        generations.publish_vectors(connection, generation, vectors, told.append, watcher=watcher)
        needed = memory.hnsw_build_bytes(8000, 64, memory.HNSW_M)
        assert value(connection, "maintenance_work_mem") == f"{-(-needed // 1024)}kB"
        connection.commit()
        assert value(connection, "maintenance_work_mem") == "1MB"
    assert any(one.stage == "build index" and 0 < one.done <= (one.total or 0) for one in told)
    assert not any(thread.name == "tterec-index-progress" for thread in threading.enumerate())


def test_memory_that_was_given_is_not_taken_away(database: Database) -> None:
    with database.connect() as connection:
        connection.execute("SET maintenance_work_mem = '1GB'")
        generation = generations.begin(connection)
        generations.publish_vectors(connection, generation, random_vectors(np.arange(1, 101)))
        row = connection.execute("SHOW maintenance_work_mem").fetchone()
    assert row == ("1GB",)


def test_too_little_shared_memory_means_a_serial_build(database: Database) -> None:
    """A parallel build takes maintenance_work_mem as shared memory: 2 TB are not to be had."""
    told: list[Progress] = []
    with database.connect(autocommit=True) as connection:
        connection.execute("SET maintenance_work_mem = '2000GB'")
        connection.execute("SET min_parallel_table_scan_size = 0")
        generation = generations.begin(connection)
        vectors = random_vectors(np.arange(1, 20001), dim=4)
        generations.publish_vectors(connection, generation, vectors, told.append)
        assert registry.info(connection, generation).status == "ready"
    assert any(one.message and "one process" in one.message for one in told)
