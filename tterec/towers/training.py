"""Training: from interactions and features to vectors to publish."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tterec.config import TrainingConfig
from tterec.errors import ConfigError, TrainingError
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
from tterec.towers.batches import Batches
from tterec.towers.embedding import Towers
from tterec.towers.features import Encoded, Features
from tterec.towers.histories import Histories, gather_histories
from tterec.towers.negatives import Negatives
from tterec.towers.schedule import pace
from tterec.towers.spectral import spectral_items
from tterec.towers.steps import Learner
from tterec.towers.threads import bounded_threads
from tterec.towers.validation import Figures, Validation

MOST_PAIRS = 2**28
"""Full softmax: items times interactions of a step; which of them the user has met is a mask of a
byte each, and a step of that many takes some 5 s on one thread with 64 dimensions."""


def train(
    interactions: Interactions,
    users: FeatureTable,
    items: FeatureTable,
    config: TrainingConfig,
    progress: ProgressCallback = ignore,
) -> TrainedModel:
    """Train both towers and embed every item and user of the tables.

    Interactions with an item that is not in `items` are left out; users that are not in `users`
    teach as users without features. The same input, configuration and number of threads give the
    same bytes. Raises TrainingError if there is nothing to learn from or the loss diverges, and
    ConfigError for a device that is not there. KeyboardInterrupt passes through.
    """
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device cuda: torch finds no CUDA here; train with --device cpu")
    histories = gather_histories(interactions, users, items, config.max_history)
    held_out = validation_split(
        histories.user_ids[histories.owners],
        histories.ratings,
        users=config.validation_users,
        seed=config.seed,
        rated_only=config.objective == "mse",
    )
    progress(Progress("features", 0, 2))
    item_features, user_features = Features.fit(items), Features.fit(users)
    encoded_items = item_features.encode(items)
    progress(Progress("features", 1, 2))
    encoded_users = user_features.encode(users)
    progress(Progress("features", 2, 2))
    data = _Data(
        histories.select(~held_out), histories.select(held_out), encoded_items, encoded_users
    )
    shape = model.Shape(
        items=len(items),
        item_tokens=item_features.token_count,
        item_dense=item_features.dense_width,
        user_tokens=user_features.token_count,
        user_dense=user_features.dense_width,
        dim=config.dim,
    )
    with bounded_threads(config.threads) as threads:
        fitted = _fit(data, shape, config, progress)
        own = np.flatnonzero(fitted.gates)
        fitted.parameters["item_ids"] = torch.from_numpy(
            fitted.gates[own, None] * fitted.parameters["item_ids"][own].numpy()
        )
        towers = Towers(fitted.parameters, items.ids[own], item_features, user_features, config)
        vectors = towers.publish(items, encoded_items, users, encoded_users)
    return TrainedModel(
        vectors=vectors,
        weights=towers.save(),
        features=towers.features,
        metrics=fitted.metrics | {"threads": threads},
        validation=data.held_out.interactions(items.ids),
    )


@dataclass(frozen=True)
class _Data:
    """What is learned from, the interactions held out for validation, and the features."""

    histories: Histories
    held_out: Histories
    items: Encoded
    users: Encoded


@dataclass(frozen=True)
class _Fitted:
    """The best epoch's parameters, the items' gates (items,) and the run's figures."""

    parameters: model.Parameters
    gates: NDArray[np.float32]
    metrics: dict[str, Any]


def _fit(
    data: _Data, shape: model.Shape, config: TrainingConfig, progress: ProgressCallback
) -> _Fitted:
    """Learn epoch by epoch until validation stops getting better; the best epoch's parameters."""
    mse = config.objective == "mse"
    device = torch.device(config.device)
    histories = data.histories
    targets = ~np.isnan(histories.ratings) if mse else np.ones(len(histories), dtype=bool)
    if not targets.any():
        raise TrainingError(
            "objective mse learns from ratings, and no interaction has one; "
            "train without ratings: tterec train --objective softmax"
        )
    counts = np.bincount(histories.items, minlength=shape.items)
    batches = Batches(
        histories,
        targets,
        data.items,
        data.users,
        batch_size=config.batch_size,
        negatives=_negatives(counts, data.items, config),
        id_shrinkage=config.id_shrinkage,
        id_dropout=0.0 if mse else config.id_dropout,
        seed=config.seed,
    )
    if config.objective == "full-softmax":
        _check_affordable(shape.items, batches.targets // batches.steps)
    parameters = model.initial_parameters(
        shape,
        objective=config.objective,
        temperature=config.temperature,
        mean_rating=float(histories.ratings[targets].mean()) if mse else 0.0,
        seed=config.seed,
    )
    if config.initialisation == "spectral":
        parameters["item_ids"] = spectral_items(histories, parameters["item_ids"], config.seed)
    learner = Learner(parameters, config, device)
    validation = Validation(histories, data.held_out, data.items, data.users, device)
    best = _Best(mse)
    started = time.perf_counter()
    for epoch in range(1, config.epochs + 1):
        loss, rate = _epoch(epoch, learner, batches, config, progress)
        figures = validation.figures(learner.parameters, batches.gates, mse=mse)
        best.offer(epoch, figures, learner.parameters)
        progress(Progress("train", message=_line(epoch, loss, figures, rate, mse)))
        if epoch - best.epoch >= config.patience:
            break
    return _Fitted(
        parameters=best.parameters,
        gates=batches.gates,
        metrics={
            "epochs": epoch,
            "best_epoch": best.epoch,
            "validation_ndcg_at_20": _plain(best.figures.ndcg),
            "validation_rmse": _plain(best.figures.rmse),
            "validation_users": len(validation),
            "interactions": batches.targets,
            "interactions_per_second": round(rate),
            "seconds": round(time.perf_counter() - started, 1),
        },
    )


def _negatives(
    counts: NDArray[np.integer], items: Encoded, config: TrainingConfig
) -> Negatives | None:
    """What is drawn beside a batch's own items; None: the whole catalogue."""
    if config.objective == "full-softmax":
        return None
    if config.objective == "mse":
        return Negatives(counts, items)
    return Negatives(
        counts,
        items,
        uniform=config.uniform_negatives,
        popular=config.popular_negatives,
        popularity_power=config.popularity_power,
        similar=config.similar_negatives,
    )


def _check_affordable(items: int, batch: int) -> None:
    if items * batch > MOST_PAIRS:
        raise TrainingError(
            f"full-softmax would score {items:,} items for each of {batch:,} interactions a step, "
            f"and can afford {MOST_PAIRS:,} pairs; train with --objective softmax, or with "
            f"batch_size = {max(MOST_PAIRS // items, 2)} in train.toml"
        )


def _epoch(
    epoch: int,
    learner: Learner,
    batches: Batches,
    config: TrainingConfig,
    progress: ProgressCallback,
) -> tuple[float, float]:
    """Learn from all batches once: mean loss and interactions a second."""
    started = time.perf_counter()
    total = 0.0
    for done, batch in enumerate(batches.epoch(), start=1):
        epochs = epoch - 1 + done / batches.steps
        share = pace(epochs, config.schedule, warmup=config.warmup, epochs=config.epochs)
        total += learner.step(batch, share)
        progress(Progress("train", done, batches.steps))
    learner.settle()
    return total / batches.steps, batches.targets / (time.perf_counter() - started)


class _Best:
    """The epoch with the best validation figure, and its parameters.

    That is NDCG@20, but with mse RMSE: towers that predict ratings rank hardly better than chance
    (NDCG@20 .001 on Book-Crossing), so that theirs says nothing about when to stop. Without
    validation users the last epoch is the best.
    """

    def __init__(self, mse: bool) -> None:
        self._mse = mse
        self._value = -np.inf
        self.epoch = 0
        self.figures = Figures(float("nan"), float("nan"))
        self.parameters: model.Parameters = {}

    def offer(self, epoch: int, figures: Figures, parameters: model.Parameters) -> None:
        """Keep a copy of the parameters if they are better than all before."""
        value = -figures.rmse if self._mse else figures.ndcg
        if value > self._value or np.isnan(value):
            self.epoch, self.figures, self._value = epoch, figures, value
            self.parameters = {
                name: tensor.detach().cpu().clone() for name, tensor in parameters.items()
            }


def _line(epoch: int, loss: float, figures: Figures, rate: float, mse: bool) -> str:
    predicted = f"  validation RMSE {figures.rmse:.4f}" if mse else ""
    return (
        f"epoch {epoch}  loss {loss:.4f}  validation NDCG@20 {figures.ndcg:.4f}{predicted}  "
        f"{rate:,.0f} interactions/s"
    )


def _plain(value: float) -> float | None:
    """A number that JSON can hold: None for NaN."""
    return round(value, 6) if np.isfinite(value) else None
