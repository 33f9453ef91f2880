"""Learning epoch by epoch, until validation stops getting better."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tterec.config import TrainingConfig
from tterec.errors import TrainingError
from tterec.records import Progress, ProgressCallback
from tterec.towers import model
from tterec.towers.batches import Batches
from tterec.towers.distributed import ALONE, Ranks
from tterec.towers.features import Encoded
from tterec.towers.histories import Histories
from tterec.towers.negatives import Negatives
from tterec.towers.schedule import pace
from tterec.towers.steps import Learner
from tterec.towers.validation import Figures, Validation

MOST_PAIRS = 2**28
"""Full softmax: items times interactions of a step; which of them the user has met is a mask of a
byte each, and a step of that many takes some 5 s on one thread with 64 dimensions."""


@dataclass(frozen=True)
class Lesson:
    """What is learned from, the interactions held out for validation, and the features.

    targets: bool (n,), which of the n interactions in `histories` are learned; the others are
    histories only.
    """

    histories: Histories
    held_out: Histories
    targets: NDArray[np.bool_]
    items: Encoded
    users: Encoded


@dataclass(frozen=True)
class Learned:
    """The best epoch's parameters (rank 0's alone), the items' gates (items,) and the run's
    figures."""

    parameters: model.Parameters
    gates: NDArray[np.float32]
    metrics: dict[str, Any]


def learnable(histories: Histories, config: TrainingConfig) -> NDArray[np.bool_]:
    """Which interactions the objective can learn from: bool (n,). TrainingError if none."""
    if config.objective != "mse":
        return np.ones(len(histories), dtype=bool)
    rated: NDArray[np.bool_] = ~np.isnan(histories.ratings)
    if not rated.any():
        raise TrainingError(
            "objective mse learns from ratings, and no interaction has one; "
            "train without ratings: tterec train --objective softmax"
        )
    return rated


def learn(
    lesson: Lesson,
    parameters: model.Parameters,
    config: TrainingConfig,
    progress: ProgressCallback,
    *,
    carried: float | None = None,
    ranks: Ranks = ALONE,
) -> Learned:
    """Learn epoch by epoch until validation stops getting better; the best epoch's parameters.

    `carried`: the parameters are those of trained towers, which take steps of this share of the
    learning rate. They are epoch 0, which is best where no other is better, and what no batch
    meets stays what it was. `ranks` all learn, each from its share of every batch, and have the
    same parameters in the end.
    """
    mse = config.objective == "mse"
    device = ranks.device(config.device)
    histories, items = lesson.histories, len(lesson.items)
    counts = histories.item_counts(items)
    batches = Batches(
        histories,
        lesson.targets,
        lesson.items,
        lesson.users,
        batch_size=config.batch_size,
        negatives=_negatives(counts, lesson.items, config, ranks.size),
        id_shrinkage=config.id_shrinkage,
        id_dropout=0.0 if mse else config.id_dropout,
        seed=config.seed,
        rank=ranks.rank,
        ranks=ranks.size,
    )
    if config.objective == "full-softmax":
        _check_affordable(items, batches.targets // batches.steps)
    learner = Learner(parameters, config, device, carried=carried is not None, ranks=ranks)
    validation = Validation(histories, lesson.held_out, lesson.items, lesson.users, device)
    best = _Best(mse)
    started = time.perf_counter()
    before = {}
    if carried is not None:
        figures = validation.figures(learner.parameters, batches.gates, mse=mse)
        best.offer(0, figures, learner.parameters)
        before = {
            "validation_ndcg_at_20_before": _plain(figures.ndcg),
            "validation_rmse_before": _plain(figures.rmse),
        }
        progress(Progress("train", message=f"before   {_figures(figures, mse)}"))
    for epoch in range(1, config.epochs + 1):
        loss, rate = _epoch(epoch, learner, batches, config, progress, longest=carried or 1.0)
        ranks.require_equal(learner.parameters)
        figures = _judged(validation, learner, batches, mse, ranks)
        # Only rank 0 publishes: the others need to know no more than which epoch was best.
        best.offer(epoch, figures, learner.parameters if ranks.rank == 0 else {})
        progress(Progress("train", message=_line(epoch, loss, figures, rate, mse)))
        if epoch - best.epoch >= config.patience:
            break
    return Learned(
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
            "bfloat16": learner.bfloat16,
            "seconds": round(time.perf_counter() - started, 1),
            **before,
        },
    )


def _judged(
    validation: Validation, learner: Learner, batches: Batches, mse: bool, ranks: Ranks
) -> Figures:
    """Rank 0's figures: all stop by the same."""
    figures = Figures(float("nan"), float("nan"))
    if ranks.rank == 0:
        figures = validation.figures(learner.parameters, batches.gates, mse=mse)
    return Figures(*ranks.as_first(figures))


def _negatives(
    counts: NDArray[np.integer], items: Encoded, config: TrainingConfig, ranks: int
) -> Negatives | None:
    """What is drawn beside a batch's own items; None: the whole catalogue.

    Each rank's share of a batch has as many drawn as the whole would have: its own items are fewer.
    """
    if config.objective == "full-softmax":
        return None
    if config.objective == "mse":
        return Negatives(counts, items)
    return Negatives(
        counts,
        items,
        uniform=config.uniform_negatives * ranks,
        popular=config.popular_negatives * ranks,
        popularity_power=config.popularity_power,
        similar=config.similar_negatives * ranks,
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
    *,
    longest: float,
) -> tuple[float, float]:
    """Learn from all batches once, in steps of at most `longest` times the learning rate: mean
    loss and interactions a second."""
    started = time.perf_counter()
    total = 0.0
    for done, batch in enumerate(batches.epoch(), start=1):
        epochs = epoch - 1 + done / batches.steps
        share = pace(epochs, config.schedule, warmup=config.warmup, epochs=config.epochs)
        total += learner.step(batch, share * longest)
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
            self.parameters = {}  # before the next copy is made: two would not fit everywhere
            self.parameters = {
                name: torch.empty_like(tensor, device="cpu").copy_(tensor.detach())
                for name, tensor in parameters.items()
            }


def _line(epoch: int, loss: float, figures: Figures, rate: float, mse: bool) -> str:
    return f"epoch {epoch}  loss {loss:.4f}  {_figures(figures, mse)}  {rate:,.0f} interactions/s"


def _figures(figures: Figures, mse: bool) -> str:
    predicted = f"  validation RMSE {figures.rmse:.4f}" if mse else ""
    return f"validation NDCG@20 {figures.ndcg:.4f}{predicted}"


def _plain(value: float) -> float | None:
    """A number that JSON can hold: None for NaN."""
    return round(value, 6) if np.isfinite(value) else None
