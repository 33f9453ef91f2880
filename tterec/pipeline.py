"""The verbs, assembled from the rooms."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tterec import fitting, publishing
from tterec.config import TrainingConfig
from tterec.database import functions, schema
from tterec.database.connection import Database
from tterec.records import GenerationInfo, ProgressCallback, ignore
from tterec.store import (
    generations,
    kinds,
    live_views,
    locks,
    prewarming,
    pruning,
    reading,
    registry,
    sources,
    user_lists,
)
from tterec.store import load as loading
from tterec.store.load_summary import LoadSummary
from tterec.store.pruning import Pruned
from tterec.store.stages import showing, stage
from tterec.timings import Timings, timed

if TYPE_CHECKING:
    from tterec.towers import Towers


def upgrade(database: Database) -> None:
    """Bring the schema, the source views and the SQL functions to this version, or nothing.

    Raises Busy while a process trains or precomputes lists: it would go on with what the old
    version makes.
    """
    with schema.upgrading(database.of("db upgrade"), locks.hold_off_makers) as connection:
        sources.install(connection)
        functions.apply(connection)
        live_views.install(connection)


def load(
    database: Database,
    *,
    users: Path | None = None,
    books: Path | None = None,
    ratings: Path | None = None,
    strict: bool = False,
    zero_is_a_rating: bool = False,
    progress: ProgressCallback = ignore,
) -> LoadSummary:
    """Load CSV files in one transaction; see `tterec.store.load.load`."""
    return loading.load(
        database.of("load"),
        users=users,
        books=books,
        ratings=ratings,
        strict=strict,
        zero_is_a_rating=zero_is_a_rating,
        progress=progress,
    )


def train(
    database: Database,
    config: TrainingConfig | None = None,
    query_files: Mapping[str, Path] | None = None,
    *,
    promote: bool = True,
    accept_new_types: bool = False,
    progress: ProgressCallback = ignore,
) -> GenerationInfo:
    """Train both towers from the sources, publish their vectors, and make them live.

    `query_files` are SQL files to read instead of the live queries, by `interactions`, `users`
    and `items`; the source views become theirs when the generation is promoted. Whatever goes
    wrong before that, the live generation stays as it is. Raises Busy while another process
    trains on this database, SourceError, TrainingError. Under torchrun this is rank 0's part; the
    others call `assist`.
    """
    config = config or TrainingConfig()
    database, progress = database.of("train"), Timings(progress)
    with (
        fitting.together() as group,
        database.connect(autocommit=True, patient=True) as guard,  # holds the locks
    ):
        locks.hold_training(guard)
        schema.require_current(guard)  # an upgrade waits for who trains, or keeps it out
        publishing.check_connections(database)
        queries = sources.chosen(guard, query_files or {})
        kept = () if queries.origin == "default" else set(sources.NAMES) - set(query_files or {})
        with sources.stored(kept):
            columns = reading.described(guard, queries)
        last = registry.last_kinds(guard)
        if last is not None and not accept_new_types:
            kinds.check_kinds(reading.kinds_of(columns), last[1], last[0])
        with stage(guard, "read sources", progress):
            data = reading.read_sources(guard, queries, progress, columns)
        with publishing.building(database, guard, config, queries, data) as generation:
            with showing(guard, "fit"):
                model = fitting.fit(
                    data.interactions, data.users, data.items, config, progress, group=group
                )
            publishing.publish(
                database, guard, generation, model, data, seed=config.seed, progress=progress
            )
        if promote:
            with timed(progress, "promote"):
                publishing.promote(database, generation)
        return publishing.published(database, generation, progress.seconds)


def assist() -> None:
    """Help rank 0 train, as another process that torchrun has started with it."""
    fitting.assist()


def example_user(database: Database) -> str:
    """The id of some user with interactions, as the sources have it, to be typed."""
    with database.connect() as connection:
        return sources.example_user(connection)


def load_towers(database: Database, generation: int | None = None) -> Towers:
    """The towers of a generation, by default the live one: they embed any user or item.

    Raises NoActiveModel, or UnknownGeneration where the registry has no such towers.
    """
    with database.connect() as connection:
        schema.require_current(connection)
        stored = registry.towers(connection, generation)
    from tterec.towers import Towers

    return Towers.load(stored.weights, stored.features, stored.config)


def models_list(database: Database) -> list[GenerationInfo]:
    """All generations, the oldest first."""
    with database.connect() as connection:
        schema.require_current(connection)
        return registry.list_generations(connection)


def models_show(database: Database, generation: int) -> dict[str, Any]:
    """What the registry knows of one generation, JSON-able. Raises UnknownGeneration."""
    with database.connect() as connection:
        schema.require_current(connection)
        found = registry.show(connection, generation)
        return {**found, "user_lists": user_lists.count(connection, generation)}


def models_promote(database: Database, generation: int) -> None:
    """Make a ready generation the live one. Raises UnknownGeneration, Busy."""
    with database.of("models promote").connect(autocommit=True, patient=True) as connection:
        schema.require_current(connection)
        prewarming.prewarm(database.of("models promote"), generation)
        generations.promote(connection, generation)


def models_rollback(database: Database) -> int:
    """Make the previous generation live again; its number. Raises UnknownGeneration, Busy."""
    with database.of("models rollback").connect(autocommit=True, patient=True) as connection:
        schema.require_current(connection)
        generation = generations.rollback(connection)
    # Afterwards: who rolls back is in a hurry. Who stops it has rolled back all the same.
    with suppress(KeyboardInterrupt):
        prewarming.prewarm(database.of("models rollback"), generation)
    return generation


def models_prune(database: Database, progress: ProgressCallback = ignore) -> Pruned:
    """Drop all generations but the live and the previous one; see `tterec.store.pruning`."""
    with database.of("models prune").connect(autocommit=True, patient=True) as connection:
        schema.require_current(connection)
        return pruning.prune(connection, progress=progress)
