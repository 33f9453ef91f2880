"""The life of a generation: begun, published or failed, promoted, rolled back from."""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from importlib import metadata
from typing import Any

from tterec import __version__, errors
from tterec.config import TrainingConfig
from tterec.database import generation_functions
from tterec.database.connection import Connection
from tterec.records import (
    Interactions,
    ProgressCallback,
    Ranker,
    TrainedModel,
    TrainedVectors,
    ignore,
)
from tterec.store import (
    change_queue,
    clusters,
    evidence_table,
    live_views,
    locks,
    profile_tables,
    recall,
    registry,
    revisions,
    sources,
    state_tables,
    user_lists,
    vector_tables,
)
from tterec.store.reading import TrainingData
from tterec.store.recall import Probe
from tterec.store.sources import Queries
from tterec.store.stages import stage

# One field of a row holds a gigabyte, less what the message around it takes.
_MOST_WEIGHTS = 1_000_000_000


def begin(
    connection: Connection,
    config: TrainingConfig | None = None,
    queries: Queries | None = None,
    kinds: Mapping[str, Mapping[str, str]] | None = None,
) -> int:
    """Register a generation that is being built; its number.

    While `connection` stays open, prune leaves it alone. `queries` are those it is trained
    from (default: the current ones), `kinds` the kind of each of their columns.
    """
    config = config or TrainingConfig()
    queries = queries or sources.current_queries(connection) or sources.default_queries()
    described = {name: queries.body(name) for name in sources.NAMES}
    with connection.transaction():
        row = connection.execute(
            "INSERT INTO tterec.models (status, objective, dim, seed, config, sources, versions)"
            " VALUES ('building', %s, %s, %s, %s, %s, %s) RETURNING generation",
            (
                config.objective,
                config.dim,
                config.seed,
                _json(asdict(config)),
                _json({**described, "origin": queries.origin, "kinds": dict(kinds or {})}),
                _json(_versions(connection)),
            ),
        ).fetchone()
        assert row is not None
        generation = int(row[0])
        locks.hold_building(connection, generation)
    return generation


def _versions(connection: Connection) -> dict[str, str]:
    row = connection.execute(
        "SELECT current_setting('server_version'),"
        " (SELECT extversion FROM pg_extension WHERE extname = 'vector')"
    ).fetchone()
    assert row is not None
    # Not from the modules: torch takes two seconds to import.
    libraries = {name: metadata.version(name) for name in ("torch", "numpy")}
    return {
        "tterec": __version__,
        **libraries,
        "python": platform.python_version(),
        "postgres": str(row[0]),
        "pgvector": str(row[1]),
    }


def record(
    connection: Connection,
    generation: int,
    model: TrainedModel,
    *,
    counts: Mapping[str, int],
    watermark: datetime | None = None,
) -> None:
    """Keep what training gave besides the vectors: weights, features, metrics, counts.

    `watermark` is the moment whose data was read.
    """
    if len(model.weights) > _MOST_WEIGHTS:
        raise errors.TrainingError(
            f"the towers' weights take {len(model.weights) >> 20:,} MB, Postgres keeps "
            f"{_MOST_WEIGHTS >> 20:,} MB in one field; choose a smaller --dim"
        )
    connection.execute(
        "UPDATE tterec.models SET weights = %b, features = %s, metrics = %s, counts = %s,"
        " watermark = %s WHERE generation = %s",
        (
            model.weights,
            _json(model.features),
            _json(model.metrics),
            _json(counts),
            watermark,
            generation,
        ),
    )


def publish_vectors(
    connection: Connection,
    generation: int,
    vectors: TrainedVectors,
    progress: ProgressCallback = ignore,
    *,
    ranker: Ranker | None = None,
    probes: Sequence[Probe] = (),
    watcher: Connection | None = None,
    data: TrainingData | None = None,
    validation: Interactions | None = None,
) -> None:
    """Write, index and check a generation's vectors; the generation is 'ready', not yet live.

    With a `ranker` its evidence is written too, with the `data` that was read what an update must
    know of it, and of the `validation` which interactions were not learned. One transaction:
    whatever goes wrong, there are no tables and the status stays 'building'.
    With `probes` the index's recall is measured and the smallest sufficient ef_search kept.
    """
    with connection.transaction():
        vector_tables.create(connection, generation, vectors, progress, watcher)
        with stage(connection, "write the rest", progress):
            profile_tables.create(connection, generation, vectors.profile_columns, vectors.dim)
            if ranker is not None:
                evidence_table.create(connection, generation, ranker, progress)
                state_tables.keep_traits(connection, generation, ranker)
            if data is not None:
                state_tables.keep_digests(connection, generation, data)
            if validation is not None:
                state_tables.keep_held_out(connection, generation, validation)
        with stage(connection, "check recall", progress):
            measured = recall.measure(connection, generation, vectors, probes, progress)
        _keep_popularity(connection, generation)
        updated = connection.execute(
            "UPDATE tterec.models SET status = 'ready', finished_at = clock_timestamp(), dim = %s,"
            " normalised = %s, max_history = %s, history_weights = %s, default_profile = %s,"
            " ef_search = %s, ranker = %s, metrics = metrics || %s, counts = counts || %s"
            " WHERE generation = %s AND status = 'building'",
            (
                vectors.dim,
                vectors.normalised,
                vectors.max_history,
                vectors.history_weights.tolist(),
                vectors.default_profile.tolist(),
                measured.ef_search if measured else recall.UNMEASURED,
                _json(_ranking(ranker)) if ranker is not None else None,
                _json({"index": measured.as_metrics()} if measured else {}),
                _json(
                    {
                        "item_vectors": len(vectors.item_ids),
                        "user_vectors": len(vectors.user_ids),
                    }
                ),
                generation,
            ),
        )
        if updated.rowcount != 1:
            raise errors.UnknownGeneration(
                f"generation {generation} is no longer being built: another process cleared it "
                "away; run: tterec train"
            )
        generation_functions.create(connection, generation)


def keep_stages(connection: Connection, generation: int, seconds: Mapping[str, float]) -> None:
    """Keep how many seconds each stage took that made the generation."""
    connection.execute(
        "UPDATE tterec.models SET metrics = metrics || %s WHERE generation = %s",
        (_json({"stages": dict(seconds)}), generation),
    )


def _ranking(ranker: Ranker) -> dict[str, Any]:
    return {
        "similarity_weight": ranker.similarity_weight,
        "unrated_weight": ranker.unrated_weight,
        "candidates": ranker.candidates,
        "width": ranker.width,
    }


def fail(connection: Connection, generation: int) -> bool:
    """Give a generation up: status 'failed', tables dropped. False if it is live, or was pruned."""
    with connection.transaction():
        locks.await_promotion(connection)
        updated = connection.execute(
            "UPDATE tterec.models m SET status = 'failed', finished_at = clock_timestamp()"
            " WHERE generation = %s AND status IN ('building', 'ready') AND NOT EXISTS"
            " (SELECT FROM tterec.active_model"
            "  WHERE m.generation IN (active_model.generation, previous_generation))",
            (generation,),
        )
        if updated.rowcount == 0:
            return False
        clear(connection, generation)
    return True


def clear(connection: Connection, generation: int) -> None:
    """Drop what a generation holds besides its row in the registry, and the weights in that."""
    vector_tables.drop(connection, generation)
    generation_functions.drop(connection, generation)
    revisions.forget(connection, generation)
    for table in ("item_popularity", *state_tables.TABLES):
        connection.execute(
            f"DELETE FROM tterec.{table} WHERE generation = %s".encode(), (generation,)
        )
    profile_tables.delete_columns(connection, generation)
    clusters.delete(connection, generation)
    user_lists.clear(connection, generation)
    connection.execute(
        "UPDATE tterec.models SET weights = NULL WHERE generation = %s AND weights IS NOT NULL",
        (generation,),
    )


def promote(connection: Connection, generation: int) -> None:
    """Make a ready generation the live one, by one row; the live one becomes the previous.

    In the same transaction the source views become those that it was trained from, and the views
    on live vectors show its own. Raises UnknownGeneration if it is not ready. A generation that is
    live already stays so.
    """
    with connection.transaction():
        locks.await_promotion(connection)
        _require_ready(connection, generation)
        # One that was published before there were such functions has none.
        generation_functions.create_missing(connection, generation)
        locks.in_short_waits(connection, lambda: _point_views(connection, generation))
        _keep_popularity(connection, generation)
        changed = connection.execute(
            "INSERT INTO tterec.active_model AS live (generation) VALUES (%s)"
            " ON CONFLICT (only_row) DO UPDATE SET generation = excluded.generation,"
            " previous_generation = live.generation, promoted_at = now()"
            " WHERE live.generation <> excluded.generation",
            (generation,),
        ).rowcount
        if changed:  # it knows nothing of what came while the other was live
            change_queue.everything(connection)


def rollback(connection: Connection) -> int:
    """Make the previous generation live again and the live one previous; the now live number.

    Raises NoActiveModel if none is live, UnknownGeneration if there is none to go back to.
    """
    with connection.transaction():
        locks.await_promotion(connection)
        row = connection.execute("SELECT previous_generation FROM tterec.active_model").fetchone()
        if row is None:
            raise errors.NoActiveModel
        if row[0] is None:
            raise errors.UnknownGeneration(
                "there is no previous generation to go back to; see: tterec models list"
            )
        promote(connection, int(row[0]))
    return int(row[0])


def _require_ready(connection: Connection, generation: int) -> None:
    status = registry.show(connection, generation)["status"]
    if status != "ready":
        raise errors.UnknownGeneration(
            f"generation {generation} is {status}, only a ready one can be promoted; "
            "see: tterec models list"
        )


def _point_views(connection: Connection, generation: int) -> None:
    """Let the views show the generation's vectors, and its queries if they differ."""
    row = connection.execute("SELECT generation FROM tterec.active_model").fetchone()
    if row != (generation,):
        live_views.define(connection, generation)
    queries = registry.queries(connection, generation)
    if queries is not None and queries != sources.current_queries(connection):
        sources.set_sources(connection, queries)


def _keep_popularity(connection: Connection, generation: int) -> None:
    """Count how popular the items are, once a generation, as soon as its sources are the live.

    `tterec.popularity()` reads the views: of a generation from other queries it is counted
    when it is promoted.
    """
    if registry.queries(connection, generation) not in (None, sources.current_queries(connection)):
        return
    connection.execute(
        "INSERT INTO tterec.item_popularity"
        " (generation, item_id, interactions, ratings, mean_rating, score)"
        " SELECT %(n)s, item_id, interactions, ratings, mean_rating, score"
        " FROM tterec.popularity()"
        " WHERE NOT EXISTS (SELECT FROM tterec.item_popularity WHERE generation = %(n)s)",
        {"n": generation},
    )


def _json(value: Mapping[str, Any]) -> str:
    """JSON as Postgres takes it: without NaN and infinities."""

    def plain(part: Any) -> Any:
        if isinstance(part, Mapping):
            return {str(key): plain(inner) for key, inner in part.items()}
        if isinstance(part, list | tuple):
            return [plain(inner) for inner in part]
        return None if isinstance(part, float) and not math.isfinite(part) else part

    return json.dumps(plain(value))
