"""The verbs, assembled from the rooms."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tterec import fitting
from tterec.config import TrainingConfig
from tterec.database import functions, schema
from tterec.database.connection import Database
from tterec.errors import TterecError
from tterec.ranking import exact
from tterec.records import GenerationInfo, Interactions, ProgressCallback, TrainedVectors, ignore
from tterec.store import generations, kinds, locks, pruning, reading, registry, sources
from tterec.store import load as loading
from tterec.store.load_summary import LoadSummary
from tterec.store.pruning import Pruned
from tterec.store.reading import TrainingData
from tterec.store.recall import Probe

if TYPE_CHECKING:
    from tterec.towers import Towers

# A share of users' lists is known to a percent or so; each asks the index once per ef_search.
_PROBED_USERS = 150


def upgrade(database: Database) -> None:
    """Bring the schema, the source views and the SQL functions to this version, or nothing."""
    with schema.upgrading(database) as connection:
        sources.install(connection)
        functions.apply(connection)


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
        database,
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
    trains on this database, SourceError, TrainingError.
    """
    config = config or TrainingConfig()
    with database.connect(autocommit=True) as guard:  # holds the locks from end to end
        schema.require_current(guard)
        locks.hold_training(guard)
        queries = sources.chosen(guard, query_files or {})
        columns = reading.described(guard, queries)
        last = registry.last_kinds(guard)
        if last is not None and not accept_new_types:
            kinds.check_kinds(reading.kinds_of(columns), last[1], last[0])
        data = reading.read_sources(guard, queries, progress, columns)
        generation = generations.begin(guard, config, queries, data.kinds)
        try:
            model = fitting.fit(data.interactions, data.users, data.items, config, progress)
            probes = _probes(model.vectors, data.interactions, config.seed)
            with database.connect(autocommit=True) as connection:
                generations.record(
                    connection, generation, model, counts=_counts(data), watermark=data.read_at
                )
                generations.publish_vectors(
                    connection,
                    generation,
                    model.vectors,
                    progress,
                    ranker=model.ranker,
                    probes=probes,
                    watcher=guard,
                    data=data,
                )
        except BaseException:
            _give_up(database, generation)
            raise
        if promote:
            _promote_trained(database, generation)
        return registry.info(guard, generation)


def _promote_trained(database: Database, generation: int) -> None:
    try:
        models_promote(database, generation)
    except TterecError as error:  # hours of training are not thrown away for a lock
        raise type(error)(
            f"generation {generation} is ready but not live: {error}; once that is mended, run: "
            f"tterec models promote {generation}"
        ) from error
    except KeyboardInterrupt:
        if _give_up(database, generation):
            raise  # otherwise it came too late: the generation is live


def _give_up(database: Database, generation: int) -> bool:
    """Mark a generation as failed, if that can be done: else the next prune does it."""
    with suppress(TterecError), database.connect(autocommit=True) as connection:
        return generations.fail(connection, generation)
    return True


def _counts(data: TrainingData) -> dict[str, int]:
    return {
        "interactions": len(data.interactions),
        "ratings": int(np.count_nonzero(~np.isnan(data.interactions.ratings))),
        "users": len(data.users),
        "items": len(data.items),
        "interacting_users": len(np.unique(data.interactions.user_ids)),
        "dropped_interactions": data.dropped,
    }


def _probes(vectors: TrainedVectors, interactions: Interactions, seed: int) -> list[Probe]:
    """Users drawn from those with interactions, with their vectors and all they have seen.

    `interactions` are ordered by user, and all of their items have vectors.
    """
    users, starts = np.unique(interactions.user_ids, return_index=True)
    ends = np.append(starts[1:], len(interactions))
    drawn = np.random.default_rng(seed).permutation(len(users))[:_PROBED_USERS]
    profiles = dict(zip(vectors.user_ids.tolist(), vectors.profile_vectors, strict=True))
    by_id = np.argsort(vectors.item_ids)
    probes = []
    for user in drawn:
        mine = slice(starts[user], ends[user])
        seen, ratings = interactions.item_ids[mine], interactions.ratings[mine]
        # Newest, then highest rated, then by id; NaN, negated, still comes last.
        order = np.lexsort((seen, -ratings, -interactions.rated_at[mine]))[: vectors.max_history]
        rows = by_id[np.searchsorted(vectors.item_ids, seen[order], sorter=by_id)]
        vector = exact.user_vector(
            profiles.get(int(users[user]), vectors.default_profile),
            vectors.history_vectors[rows],
            ratings[order],
            vectors.history_weights,
            vectors.normalised,
        )
        probes.append(Probe(vector, seen))
    return probes


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
        return registry.show(connection, generation)


def models_promote(database: Database, generation: int) -> None:
    """Make a ready generation the live one. Raises UnknownGeneration, Busy."""
    with database.connect(autocommit=True) as connection:
        schema.require_current(connection)
        generations.promote(connection, generation)


def models_rollback(database: Database) -> int:
    """Make the previous generation live again; its number. Raises UnknownGeneration, Busy."""
    with database.connect(autocommit=True) as connection:
        schema.require_current(connection)
        return generations.rollback(connection)


def models_prune(database: Database, progress: ProgressCallback = ignore) -> Pruned:
    """Drop all generations but the live and the previous one; see `tterec.store.pruning`."""
    with database.connect(autocommit=True) as connection:
        schema.require_current(connection)
        return pruning.prune(connection, progress=progress)
