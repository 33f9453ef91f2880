"""Training: from interactions and features to vectors to publish."""

from __future__ import annotations

import numpy as np
import torch

from tterec.config import TrainingConfig
from tterec.evaluation import validation_split
from tterec.records import (
    FeatureTable,
    Interactions,
    Progress,
    ProgressCallback,
    TrainedModel,
    ignore,
)
from tterec.towers import model
from tterec.towers.distributed import ALONE, Group, Ranks
from tterec.towers.embedding import Towers
from tterec.towers.features import Encoded, Features
from tterec.towers.histories import gather_histories
from tterec.towers.learning import Learned, Lesson, learn, learnable
from tterec.towers.room import check_room
from tterec.towers.spectral import spectral_items
from tterec.towers.threads import bounded_threads


def train(
    interactions: Interactions,
    users: FeatureTable,
    items: FeatureTable,
    config: TrainingConfig,
    progress: ProgressCallback = ignore,
    *,
    ranks: Ranks = ALONE,
) -> TrainedModel:
    """Train both towers and embed every item and user of the tables.

    The other `ranks` learn with this one, which is rank 0; see `assist`.

    Interactions with an item that is not in `items` are left out; users that are not in `users`
    teach as users without features. The same input, configuration and number of threads give the
    same bytes. Raises TrainingError if there is nothing to learn from or the loss diverges, and
    ConfigError for a device that is not there. KeyboardInterrupt passes through.
    """
    ranks.device(config.device)  # before what takes long
    histories = gather_histories(interactions, users, items, config.max_history)
    judged = validation_split(
        histories.offsets,
        histories.ratings,
        users=config.validation_users,
        seed=config.seed,
        rated_only=config.objective == "mse",
    )
    held_out, rest = histories.select(judged), histories.select(~judged)
    del histories, judged  # learning takes memory of its own
    targets = learnable(rest, config)
    item_features, user_features = Features.fit(items), Features.fit(users)
    shape = shape_of(item_features, user_features, len(items), config)
    encoded_items, encoded_users = encode(item_features, items, user_features, users, progress)
    lesson = Lesson(rest, held_out, targets, encoded_items, encoded_users)
    check_room(shape, lesson, config, ranks=ranks)
    parameters = model.initial_parameters(
        shape,
        objective=config.objective,
        temperature=config.temperature,
        mean_rating=float(rest.ratings[targets].mean()) if config.objective == "mse" else 0.0,
        seed=config.seed,
    )
    with bounded_threads(config.threads) as threads:
        if config.initialisation == "spectral":
            start = spectral_items(rest, parameters["item_ids"], config.seed)
            parameters["item_ids"] = start
        plain = {name: tensor.numpy() for name, tensor in parameters.items()}
        ranks.hand_out((lesson, plain, config))
        learned = learn(lesson, parameters, config, progress, ranks=ranks)
        del parameters, plain  # the best epoch's are others
        made = trained_model(
            learned, lesson, items, users, (item_features, user_features), config=config
        )
    made.metrics["threads"] = threads
    return made


def assist(group: Group) -> None:
    """Learn what rank 0 trains, as another rank of its group, and leave the rest to it."""
    lesson, plain, config = group.receive()
    parameters = {name: torch.from_numpy(array) for name, array in plain.items()}
    with bounded_threads(config.threads):
        learn(lesson, parameters, config, ignore, ranks=group)


def encode(
    item_features: Features,
    items: FeatureTable,
    user_features: Features,
    users: FeatureTable,
    progress: ProgressCallback,
) -> tuple[Encoded, Encoded]:
    """Both tables as numbers: items, users."""
    progress(Progress("features", 0, 2))
    encoded_items = item_features.encode(items)
    progress(Progress("features", 1, 2))
    encoded_users = user_features.encode(users)
    progress(Progress("features", 2, 2))
    return encoded_items, encoded_users


def shape_of(
    item_features: Features, user_features: Features, items: int, config: TrainingConfig
) -> model.Shape:
    """The parameters' shape, for a catalogue of so many items."""
    return model.Shape(
        items=items,
        item_tokens=item_features.token_count,
        item_dense=item_features.dense_width,
        user_tokens=user_features.token_count,
        user_dense=user_features.dense_width,
        dim=config.dim,
    )


def trained_model(
    learned: Learned,
    lesson: Lesson,
    items: FeatureTable,
    users: FeatureTable,
    features: tuple[Features, Features],
    *,
    config: TrainingConfig,
) -> TrainedModel:
    """What was learned, with the vectors of all items and users. features: items', users'."""
    own = np.flatnonzero(learned.gates)
    gated = learned.gates[own, None] * learned.parameters["item_ids"][own].numpy()
    validation = lesson.held_out.interactions(items.ids)
    towers = Towers(
        learned.parameters | {"item_ids": torch.from_numpy(gated)},
        items.ids[own],
        *features,
        config,
    )
    return TrainedModel(
        vectors=towers.publish(items, lesson.items, users, lesson.users),
        weights=towers.save(),
        features=towers.features,
        metrics=dict(learned.metrics),
        validation=validation,
    )
