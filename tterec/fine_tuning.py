"""The verb `fine_tune`: the live towers go on learning, and become the next generation."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tterec import arrays, fitting, grouping, publishing
from tterec.database import schema
from tterec.database.connection import Connection, Database
from tterec.errors import NoActiveModel, TrainingError, UnknownGeneration
from tterec.records import GenerationInfo, Interactions, ProgressCallback, TrainedModel, ignore
from tterec.settings_files import training_config
from tterec.store import kinds, learned, locks, reading, registry, sources
from tterec.store.learned import Learned
from tterec.store.reading import TrainingData
from tterec.store.registry import StoredTowers
from tterec.store.stages import stage
from tterec.timings import Timings, timed


@dataclass(frozen=True)
class FineTuned:
    """The generation that was published; or the live one, and in `kept` why it stays."""

    generation: GenerationInfo
    kept: str | None = None


def fine_tune(
    database: Database,
    *,
    epochs: int | None = None,
    seed: int | None = None,
    promote: bool = True,
    progress: ProgressCallback = ignore,
) -> FineTuned:
    """Let the live generation's towers learn what is new, and publish them as a generation.

    Settings and queries are the live generation's; `epochs` and `seed` may be others. Nothing is
    published where nothing is new, or where no epoch does better on validation than the live
    towers do. Whatever goes wrong, the live generation stays as it is. Raises NoActiveModel, Busy
    while another process trains on this database, SourceError, TrainingError.
    """
    database, progress = database.of("update --fine-tune"), Timings(progress)
    with database.connect(autocommit=True, patient=True) as guard:  # holds the locks
        locks.hold_training(guard)
        schema.require_current(guard)  # an upgrade waits for who trains, or keeps it out
        publishing.check_connections(database)
        live = registry.live(guard)
        if live is None:
            raise NoActiveModel
        stored = _towers(guard, live)
        config = training_config(base=stored.config, epochs=epochs, seed=seed)
        known = learned.learned_by(guard, live)
        queries = sources.chosen(guard, {})
        columns = reading.described(guard, queries)
        kinds.check_kinds(
            reading.kinds_of(columns), (registry.last_kinds(guard) or (0, {}))[1], live
        )
        with stage(guard, "read sources", progress):
            data = reading.read_sources(guard, queries, progress, columns)

        from tterec import towers  # two seconds

        start = towers.Towers.load(stored.weights, stored.features, stored.config)
        news = unlearned(data, known, start.item_ids, rated_only=config.objective == "mse")
        if not news.any:
            return FineTuned(
                registry.info(guard, live),
                f"there is nothing new to learn in {len(data.interactions):,} interactions",
            )
        with stage(guard, "train towers", progress):
            model = towers.fine_tune(
                start,
                data.interactions,
                news.certain,
                data.users,
                data.items,
                config=config,
                held_out=_among(data.interactions, learned.held_out(guard, live)),
                replay=None if news.told else np.inf,
                progress=progress,
            )
        if model.metrics["best_epoch"] == 0:
            return FineTuned(registry.info(guard, live), _no_better(model, live))
        if config.ranker:
            model = fitting.with_ranker(model, data.interactions, data.items, progress)
        model.metrics["fine_tuned_from"] = live
        # A later training or fine-tuning is to stop as late as ever.
        kept = replace(config, epochs=stored.config.epochs)
        with publishing.building(database, guard, kept, queries, data) as generation:
            publishing.publish(
                database, guard, generation, model, data, seed=config.seed, progress=progress
            )
            with database.connect() as connection:
                learned.inherit_forgotten(connection, generation, _forgotten(known, data))
        if promote:
            with timed(progress, "promote"):
                publishing.promote(database, generation)
        return FineTuned(publishing.published(database, generation, progress.seconds))


@dataclass(frozen=True)
class News:
    """Which interactions are new: bool (n,) for those that certainly are; `told` is false where
    there are more, which nothing tells from the old ones."""

    certain: NDArray[np.bool_]
    told: bool

    @property
    def any(self) -> bool:
        """Whether there is anything new."""
        return bool(self.certain.any()) or not self.told


def unlearned(
    data: TrainingData, known: Learned, item_ids: NDArray[np.int64], *, rated_only: bool = False
) -> News:
    """What of the data a generation has not learned from; item_ids: int64, what it learned of.

    New is what has a time after the generation's watermark (and not in the future), and what is
    of an item or a user that the generation does not know. Are the others more than it has
    learned from, and by more than that, then times do not tell: they are missing, or made up.
    `rated_only`: what has no rating teaches nothing.
    """
    interactions = data.interactions
    newcomers = np.setdiff1d(data.users.ids, known.user_ids)
    items = np.unique(item_ids)
    certain = np.zeros(len(interactions), dtype=bool)
    for piece in arrays.pieces(len(interactions)):
        certain[piece] = ~grouping.among(interactions.item_ids[piece], items)
        certain[piece] |= grouping.among(interactions.user_ids[piece], newcomers)
    if known.watermark is not None:
        certain |= _between(interactions, known.watermark, data.read_at.timestamp())
    found = int(np.count_nonzero(certain))
    surplus = len(interactions) - found - known.interactions
    if rated_only:
        certain &= ~np.isnan(interactions.ratings)
    return News(certain, told=surplus <= 0 or surplus <= found)


def _between(interactions: Interactions, after: float, until: float) -> NDArray[np.bool_]:
    within: NDArray[np.bool_] = (interactions.rated_at > after) & (interactions.rated_at <= until)
    return within


def _among(interactions: Interactions, pairs: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which interactions are of these (user, item) pairs (m, 2): bool (n,)."""
    users, items = np.unique(pairs[:, 0]), np.unique(pairs[:, 1])
    found = np.zeros(len(interactions), dtype=bool)
    for piece in arrays.pieces(len(interactions)):
        found[piece] = grouping.among(interactions.user_ids[piece], users)
        found[piece] &= grouping.among(interactions.item_ids[piece], items)
    known = set(map(tuple, pairs.tolist()))
    rows = np.flatnonzero(found)
    of_rows = interactions.user_ids[rows].tolist(), interactions.item_ids[rows].tolist()
    found[rows] = [pair in known for pair in zip(*of_rows, strict=True)]
    return found


def _towers(connection: Connection, live: int) -> StoredTowers:
    try:
        return registry.towers(connection, live)
    except UnknownGeneration as error:
        raise TrainingError(
            f"there are no weights to go on from: {error}; or train: tterec train"
        ) from error


def _no_better(model: TrainedModel, live: int) -> str:
    ndcg, error = (model.metrics[f"validation_{name}"] for name in ("ndcg_at_20", "rmse"))
    figure = f"NDCG@20 {ndcg:.4f}" if error is None else f"RMSE {error:.4f}"
    return (
        f"no epoch did better on validation than generation {live} does ({figure}); to learn "
        "everything anew, run: tterec train"
    )


def _forgotten(known: Learned, data: TrainingData) -> int:
    """How many users who are no more the weights have learned from."""
    present = np.union1d(data.users.ids, data.interactions.user_ids)
    return known.forgotten + len(np.setdiff1d(known.user_ids, present))
