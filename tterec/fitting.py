"""From interactions and features to a model that ranks: towers, then the second stage.

Nothing here knows a database. `tterec train` publishes what `fit` returns; `tterec evaluate` and
`tterec tune` fit on a part of the data and rank with it in memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from tterec.config import TrainingConfig, torchrun_ranks
from tterec.records import (
    FeatureTable,
    Interactions,
    Progress,
    ProgressCallback,
    TrainedModel,
    ignore,
)
from tterec.timings import timed

if TYPE_CHECKING:
    from tterec.towers.distributed import Group

REFIT_SHARE = 0.01
"""Of the interactions; fewer held out teach less than a second fit costs: a minute on all of
Book-Crossing, for 2,000 of 404,000."""


def fit(
    interactions: Interactions,
    users: FeatureTable,
    items: FeatureTable,
    config: TrainingConfig | None = None,
    progress: ProgressCallback = ignore,
    *,
    group: Group | None = None,
) -> TrainedModel:
    """Train the towers and fit the second stage on validation interactions of its own choosing.

    `interactions` are all that may be learned from: what a caller wants to judge by must not be
    among them. There is a second stage where it does better on validation than the towers alone.
    Other processes of the `group` train the towers with this one. Raises TrainingError where there
    is nothing to learn from.
    """
    from tterec import towers  # two seconds

    config = config or TrainingConfig()
    with timed(progress, "train towers"):
        model = (
            towers.train(interactions, users, items, config, progress)
            if group is None
            else towers.train(interactions, users, items, config, progress, ranks=group)
        )
    return with_ranker(model, interactions, items, progress) if config.ranker else model


@contextmanager
def together() -> Iterator[Group | None]:
    """The processes that torchrun has started to train together; None without torchrun."""
    if torchrun_ranks()[1] == 1:
        yield None
        return
    from tterec.towers import distributed

    with distributed.joined() as group:
        yield group


def assist() -> None:
    """Help rank 0 of the processes that torchrun has started with training the towers.

    Raises TrainingError, or SystemExit where another rank has said what went wrong.
    """
    from tterec.towers import distributed, training

    with distributed.joined() as group:
        training.assist(group)


def with_ranker(
    model: TrainedModel,
    interactions: Interactions,
    items: FeatureTable,
    progress: ProgressCallback = ignore,
) -> TrainedModel:
    """The model with a second stage, if that is better on the model's validation interactions.

    The mixture is chosen without these. Then the weights are fitted to all `interactions`, unless
    what they would add is little.
    """
    if model.validation is None:
        return model
    with timed(progress, "second stage"):
        return _with_ranker(model, model.validation, interactions, items, progress)


def _with_ranker(
    model: TrainedModel,
    validation: Interactions,
    interactions: Interactions,
    items: FeatureTable,
    progress: ProgressCallback,
) -> TrainedModel:
    from tterec.ranking import histories, mixture, second_stage
    from tterec.ranking.traits import traits_of

    item_ids = model.vectors.item_ids
    evidence = second_stage.fit_evidence(interactions, item_ids, progress, without=validation)
    traits = traits_of(items)
    judges = histories.of_users(interactions, validation.user_ids)
    rest = judges.select(~histories.paired(judges, validation))
    mixed = mixture.mix(evidence, traits, model.vectors, rest, validation)
    if mixed is None:
        return model
    metrics = {
        "validation_ndcg_at_20_towers": round(mixed.ndcg_without, 6),
        "validation_ndcg_at_20_ranker": round(mixed.ndcg, 6),
        "ranker_similarity_weight": round(mixed.similarity, 6),
    }
    metrics |= {
        f"ranker_{trait.name}_weight": weight
        for trait, weight in zip(traits, mixed.traits, strict=True)
    }
    wins = mixed.ndcg > mixed.ndcg_without
    progress(Progress("ranker", message=_line(mixed.ndcg, mixed.ndcg_without)))
    ranker = None
    if wins:
        if len(validation) > REFIT_SHARE * len(interactions):
            evidence = second_stage.fit_evidence(interactions, item_ids, progress)
        ranker = replace(
            second_stage.with_traits(evidence, traits, mixed.traits),
            similarity_weight=mixed.similarity,
        )
    return replace(model, ranker=ranker, metrics=model.metrics | metrics)


def _line(with_ranker: float, without: float) -> str:
    verdict = "with" if with_ranker > without else "it stays off: with"
    return f"second stage  validation NDCG@20 {without:.4f} without, {verdict} it {with_ranker:.4f}"
