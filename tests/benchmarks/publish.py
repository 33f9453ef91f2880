"""How much longer does publishing a generation take than writing and indexing its vectors?

    python -m tests.benchmarks.publish [--items 100000] [--users 280000] [--dim 64] [--rounds 5]

The plain way: COPY of the finished binary rows into three tables, their primary keys, and the
HNSW index over the items, with the same parameters and the same maintenance_work_mem. Publishing
besides registers the generation, converts the vectors, checks that they are finite, gathers
statistics, counts popularity and grants. The check of the index's recall is timed apart. The
rounds are interleaved; the server is one of its own, with Postgres's default settings.
"""

from __future__ import annotations

import argparse
import statistics
import time
from contextlib import ExitStack
from dataclasses import replace

import numpy as np

from tests.benchmarks.big_shop import trained_vectors, unit
from tests.benchmarks.own_server import own_server
from tests.benchmarks.targets import Targets
from tests.integration.generations import plant_books
from tterec import pipeline
from tterec.config import TrainingConfig
from tterec.database import memory
from tterec.database import vectors as wire
from tterec.database.connection import Connection, Database
from tterec.records import TrainedVectors
from tterec.store import generations, recall
from tterec.store.recall import Probe

TARGET = 1.2


def trained(items: int, users: int, dim: int) -> TrainedVectors:
    """Vectors like trained ones, of items and of users."""
    random = np.random.default_rng(2)
    vectors, _ = trained_vectors(items)
    wanted = {
        "item_embeddings": vectors.item_embeddings[:, :dim],
        "history_vectors": vectors.history_vectors[:, :dim],
    }
    return replace(
        vectors,
        item_embeddings=unit(wanted["item_embeddings"]).astype(np.float32),
        history_vectors=wanted["history_vectors"].copy(),
        user_ids=np.arange(1, users + 1),
        profile_vectors=random.normal(size=(users, dim)).astype(np.float32),
        default_profile=vectors.default_profile[:dim],
    )


def plain(connection: Connection, vectors: TrainedVectors) -> dict[str, float]:
    """Seconds of COPY, keys and index."""
    streams = {
        "a": list(wire.to_copy(vectors.item_ids, vectors.item_embeddings)),
        "b": list(wire.to_copy(vectors.item_ids, vectors.history_vectors)),
        "c": list(wire.to_copy(vectors.user_ids, vectors.profile_vectors)),
    }
    seconds = {"COPY": 0.0, "keys": 0.0, "index": 0.0}
    needed = memory.hnsw_build_bytes(len(vectors.item_ids), vectors.dim, memory.HNSW_M)
    # Never less than there is: an index is built in parallel from 32 MB a process on.
    connection.execute(
        "SELECT set_config(name, greatest(setting::bigint, %s) || 'kB', false) FROM pg_settings"
        " WHERE name = 'maintenance_work_mem'",
        (-(-needed // 1024),),
    )
    with connection.transaction():
        for name, stream in streams.items():
            start = time.perf_counter()
            create = f"CREATE TABLE {name} (id bigint, embedding vector({vectors.dim}))"
            connection.execute(create.encode())
            with connection.cursor().copy(f"COPY {name} FROM STDIN (FORMAT binary)".encode()) as c:
                for chunk in stream:
                    c.write(chunk)
            copied = time.perf_counter()
            connection.execute(f"ALTER TABLE {name} ADD PRIMARY KEY (id)".encode())
            seconds["COPY"] += copied - start
            seconds["keys"] += time.perf_counter() - copied
        start = time.perf_counter()
        connection.execute(
            f"CREATE INDEX ON a USING hnsw (embedding vector_ip_ops) WITH (m = {memory.HNSW_M},"
            f" ef_construction = {memory.HNSW_EF_CONSTRUCTION})".encode()
        )
    seconds["index"] = time.perf_counter() - start
    connection.execute("RESET maintenance_work_mem")
    connection.execute("DROP TABLE a, b, c")
    return seconds


def publish(database: Database, vectors: TrainedVectors) -> tuple[float, int]:
    """Seconds from the vectors to a generation that is ready, and its number."""
    with (
        database.connect(autocommit=True) as guard,
        database.connect(autocommit=True) as connection,
    ):
        start = time.perf_counter()
        generation = generations.begin(guard, TrainingConfig(dim=vectors.dim))
        generations.publish_vectors(connection, generation, vectors, watcher=guard)
        return time.perf_counter() - start, generation


def check(connection: Connection, generation: int, vectors: TrainedVectors) -> float:
    """Seconds of the recall check, with as many users as `tterec train` takes."""
    random = np.random.default_rng(3)
    probes = []
    for _ in range(150):
        seen = random.choice(len(vectors.item_ids), size=20, replace=False)
        vector = unit(vectors.history_vectors[seen[:3]].sum(axis=0, keepdims=True))[0]
        probes.append(Probe(vector, vectors.item_ids[seen]))
    start = time.perf_counter()
    measured = recall.measure(connection, generation, vectors, probes)
    seconds = time.perf_counter() - start
    assert measured is not None
    print(f"recall check, apart: {seconds:.1f} s; {measured.as_metrics()}")
    return seconds


def main() -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--users", type=int, default=280_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    vectors = trained(given.items, given.users, given.dim)
    ratios = []
    with own_server() as database, ExitStack() as stack:
        pipeline.upgrade(database)
        connection = stack.enter_context(database.connect(autocommit=True))
        plant_books(connection, given.items)
        connection.execute(
            "INSERT INTO tterec.users (user_id) SELECT generate_series(1, %s)", (given.users,)
        )
        connection.execute(
            "INSERT INTO tterec.ratings SELECT u, 1 + (u * 7919 + n * n) %% %s, 1 + u %% 10"
            " FROM generate_series(1, %s) u, generate_series(1, 8) n ON CONFLICT DO NOTHING",
            (given.items, min(given.users, 50_000)),
        )
        connection.execute("ANALYZE tterec.ratings")
        plain(connection, vectors)  # the first finds the server's buffers empty, and is faster
        for number in range(given.rounds):
            # Each goes first in turn: what else the machine does comes and goes.
            if number % 2:
                seconds, generation = publish(database, vectors)
            parts = plain(connection, vectors)
            if not number % 2:
                seconds, generation = publish(database, vectors)
            baseline = sum(parts.values())
            ratios.append(seconds / baseline)
            shown = ", ".join(f"{name} {value:.1f}" for name, value in parts.items())
            print(
                f"round {number + 1}: plain {baseline:.1f} s ({shown}), publish {seconds:.1f} s, "
                f"ratio {ratios[-1]:.2f}",
                flush=True,
            )
            if number == given.rounds - 1:
                check(connection, generation, vectors)
            generations.fail(connection, generation)
    targets = Targets()
    targets.at_most("time of publishing over the plain way", statistics.median(ratios), TARGET)
    targets.end()


if __name__ == "__main__":
    main()
