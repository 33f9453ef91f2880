"""From a model to a generation: what `train` and `fine_tune` both do with what they learned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress

import numpy as np

from tterec import arrays, grouping
from tterec.config import TrainingConfig
from tterec.database.connection import Connection, Database
from tterec.errors import TterecError
from tterec.ranking import exact
from tterec.records import (
    GenerationInfo,
    Interactions,
    ProgressCallback,
    TrainedModel,
    TrainedVectors,
    ignore,
)
from tterec.store import generations, prewarming, registry
from tterec.store.reading import TrainingData
from tterec.store.recall import Probe
from tterec.store.sources import Queries
from tterec.store.stages import showing

# A share of users' lists is known to a percent or so; each asks the index once per ef_search.
_PROBED_USERS = 150


def check_connections(database: Database) -> None:
    """Raise ConnectionFailed now where the second connection that publishing takes is refused:
    better than after hours of training."""
    with database.connect():
        pass


@contextmanager
def building(
    database: Database,
    guard: Connection,
    config: TrainingConfig,
    queries: Queries,
    data: TrainingData,
) -> Iterator[int]:
    """A generation that is being built while the block runs: its number.

    If the block fails, so does the generation. `guard` stays open meanwhile.
    """
    generation = generations.begin(guard, config, queries, data.kinds)
    try:
        yield generation
    except BaseException:
        _give_up(database, generation)
        raise


def publish(
    database: Database,
    guard: Connection,
    generation: int,
    model: TrainedModel,
    data: TrainingData,
    *,
    seed: int,
    progress: ProgressCallback = ignore,
) -> None:
    """Write what a generation holds, and check its index: it is ready."""
    probes = _probes(model.vectors, data.interactions, seed)
    with database.connect(autocommit=True, patient=True) as connection:
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
            validation=model.validation,
        )


def promote(database: Database, generation: int) -> None:
    """Make the generation live. If that is refused, it stays ready, and the error says so."""
    try:
        prewarming.prewarm(database, generation)
        with (
            database.connect(autocommit=True, patient=True) as connection,
            showing(connection, "promote"),
        ):
            generations.promote(connection, generation)
    except TterecError as error:  # hours of training are not thrown away for a lock
        raise type(error)(
            f"generation {generation} is ready but not live: {error}; once that is mended, run: "
            f"tterec models promote {generation}"
        ) from error
    except KeyboardInterrupt:
        if _give_up(database, generation):
            raise  # otherwise it came too late: the generation is live


def published(database: Database, generation: int, seconds: Mapping[str, float]) -> GenerationInfo:
    """What became of it; how long its stages took is kept. Asked anew: a connection from before the
    training may be dead by now, and nothing is lost with it."""
    with database.connect() as connection:
        generations.keep_stages(connection, generation, seconds)
        return registry.info(connection, generation)


def _give_up(database: Database, generation: int) -> bool:
    """Mark a generation as failed, if that can be done: else the next prune does it."""
    with suppress(TterecError), database.connect(autocommit=True) as connection:
        return generations.fail(connection, generation)
    return True


def _counts(data: TrainingData) -> dict[str, int]:
    ratings = data.interactions.ratings
    return {
        "interactions": len(data.interactions),
        "ratings": sum(
            int(np.count_nonzero(~np.isnan(ratings[piece])))
            for piece in arrays.pieces(len(ratings))
        ),
        "users": len(data.users),
        "items": len(data.items),
        "interacting_users": len(grouping.starts(data.interactions.user_ids)),
        "dropped_interactions": data.dropped,
    }


def _probes(vectors: TrainedVectors, interactions: Interactions, seed: int) -> list[Probe]:
    """Users drawn from those with interactions, with their vectors and all they have seen.

    `interactions` are ordered by user, and all of their items have vectors.
    """
    starts = grouping.starts(interactions.user_ids)
    users = interactions.user_ids[starts]
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
