"""How good are the lists of a model, on interactions that it has not learned from?

Nothing here knows a database: `tterec evaluate` reads and stores, this fits, ranks and judges.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tterec import fitting
from tterec.config import TrainingConfig
from tterec.errors import EvaluationError, InvalidArgument
from tterec.evaluation.figures import (
    Catalogue,
    Comparison,
    Judged,
    judge_lists,
    judge_ratings,
)
from tterec.evaluation.groups import USER_GROUPS, user_groups
from tterec.evaluation.holdouts import SPLITS, Holdout, hold_out, refuse_leak
from tterec.ranking import baselines, clusters, simple_lists
from tterec.ranking.histories import Met, met_by, user_vectors
from tterec.ranking.lists import ranked_lists
from tterec.records import (
    ClusterMethod,
    Clusters,
    FeatureTable,
    Figure,
    Interactions,
    ModelFigures,
    Progress,
    ProgressCallback,
    TrainedModel,
    TrainedVectors,
    ignore,
)
from tterec.timings import timed

OURS, TOWERS = "tterec", "towers"
BASELINES = ("item_knn", "popularity")
_USERS_AT_ONCE = 500

Index = NDArray[np.int64]
Fit = Callable[
    [Interactions, FeatureTable, FeatureTable, TrainingConfig, ProgressCallback], TrainedModel
]
Ranker = Callable[[Index, Met], Index]


@dataclass(frozen=True)
class Protocol:
    """How to judge: see `tterec.evaluation.holdouts.hold_out` for `split` and `share`.

    Lists of k items are judged by at most `users` users who have held-out interactions, drawn by
    lot. Their held-out items are relevant, or only those rated at least `relevant_from` or not
    rated at all.
    """

    split: str = "random"
    share: float = 0.2
    k: int = 20
    relevant_from: float | None = None
    users: int = 10_000

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise InvalidArgument(f"split {self.split!r} is unknown; choose {', '.join(SPLITS)}")
        if not 0 < self.share < 1:
            raise InvalidArgument(
                f"share = {self.share:g} is out of range; choose one between 0 and 1"
            )
        if self.relevant_from is not None and not math.isfinite(self.relevant_from):
            raise InvalidArgument(f"relevant_from = {self.relevant_from} is no rating; choose one")
        for name, value in (("k", self.k), ("users", self.users)):
            if value < 1:
                raise InvalidArgument(f"{name} = {value} is out of range; choose at least 1")


@dataclass(frozen=True)
class Difference:
    """The figures of a model less those of another, of all users, who are paired."""

    model: str
    minus: str
    figures: dict[str, Figure]


@dataclass(frozen=True)
class Report:
    """What an evaluation found; `asdict` of it is JSON.

    models: tterec, towers (its lists without the second stage), item_knn and popularity; with
    predicted ratings also biases; of unseen users also weighted_average, cluster_kmeans and
    cluster_gmm, or in `left_out` why not. training, shown, test: interactions of each part.
    users: those whose lists were judged, by_user_ratings: how many of them are in each group, by
    what is known of them when the lists are made. generation: that with which the report is
    stored, else None, and why in `not_stored`.
    """

    split: str
    share: float | None
    k: int
    relevant_from: float | None
    seed: int
    settings: dict[str, Any]
    items: int
    training: int
    shown: int
    test: int
    users: int
    by_user_ratings: dict[str, int]
    models: dict[str, ModelFigures]
    differences: list[Difference] = field(default_factory=list)
    generation: int | None = None
    not_stored: str | None = None
    left_out: str | None = None


def judge(
    interactions: Interactions,
    users: FeatureTable,
    items: FeatureTable,
    config: TrainingConfig,
    protocol: Protocol,
    *,
    fit: Fit = fitting.fit,
    progress: ProgressCallback = ignore,
) -> Report:
    """Hold interactions out, fit on the rest by `config`, rank for the users, and judge.

    `fit` is given the training part only: not what is shown, not what is judged by, and in a
    split of unseen users no features of these users.
    """
    interactions = interactions.select(np.isin(interactions.item_ids, items.ids))
    holdout = hold_out(protocol.split, interactions, share=protocol.share, seed=config.seed)
    training, known, test = (
        interactions.select(part) for part in (holdout.training, holdout.known, holdout.test)
    )
    refuse_leak(training, test)
    judges = _judges(test, protocol.users, config.seed)
    test = test.select(np.isin(test.user_ids, judges))
    relevant = _relevant(test, judges, protocol.relevant_from)
    model = fit(training, _seen_users(users, interactions, holdout), items, config, progress)
    popular = baselines.popularity(training, items.ids)
    catalogue = Catalogue(items.ids, popular, len(np.unique(training.user_ids)))
    mine = known.select(np.isin(known.user_ids, judges))
    with timed(progress, "item-kNN"):
        rankers = _rankers(model, training, mine, catalogue, protocol.k)
    left_out = None
    if protocol.split == "unseen-users":
        rankers |= _simple_rankers(model.vectors, catalogue, protocol.k, config.seed, progress)
        if "cluster_kmeans" not in rankers:
            left_out = f"cluster_kmeans and cluster_gmm: {clusters.MISSING}"
    with timed(progress, "rank"):
        lists = _lists(rankers, judges, mine, items.ids, progress)
    judged = {
        name: judge_lists(ranked, relevant, protocol.k, catalogue) for name, ranked in lists.items()
    }
    if config.objective == "mse":
        _judge_predictions(judged, model, known, judges, test)
    met = np.diff(met_by(known, judges, items.ids).offsets)
    groups = user_groups(met)
    with timed(progress, "bootstrap"):
        comparison = Comparison(judged, groups, config.seed)
        models = {name: comparison.figures(name) for name in judged}
    best = max(BASELINES, key=lambda name: comparison.value(name, "ndcg"))
    return Report(
        split=protocol.split,
        share=None if protocol.split == "leave-one-out" else protocol.share,
        k=protocol.k,
        relevant_from=protocol.relevant_from,
        seed=config.seed,
        settings=asdict(config),
        items=len(items),
        training=len(training),
        shown=int(holdout.shown.sum()),
        test=int(holdout.test.sum()),
        users=sum(len(wanted) > 0 for wanted in relevant),
        by_user_ratings=_sizes(groups, relevant),
        models=models,
        differences=[
            Difference(OURS, minus, comparison.difference(OURS, minus)) for minus in (best, TOWERS)
        ],
        left_out=left_out,
    )


def _seen_users(users: FeatureTable, interactions: Interactions, holdout: Holdout) -> FeatureTable:
    """The users' features, without those of users who are to come after the training."""
    unseen = np.unique(interactions.user_ids[holdout.shown])
    kept = ~np.isin(users.ids, unseen)
    if kept.all():
        return users
    columns = tuple(replace(column, values=column.values[kept]) for column in users.columns)
    return FeatureTable(users.ids[kept], columns)


def _judges(test: Interactions, most: int, seed: int) -> Index:
    """At most so many of the users with held-out interactions, by lot; ids ascending."""
    users = np.unique(test.user_ids)
    return np.sort(np.random.default_rng(seed).permutation(users)[:most])


def _relevant(test: Interactions, judges: Index, least: float | None) -> list[Index]:
    """The relevant held-out items of each judge. EvaluationError where there is none at all."""
    if least is not None:
        # NaN is not less: an unrated interaction is relevant.
        test = test.select(~(test.ratings < least))
    if len(test) == 0:
        raise EvaluationError(
            f"no held-out interaction is rated {least:g} or more; choose a lower --relevant-from"
        )
    order = np.argsort(test.user_ids, kind="stable")
    ends = np.searchsorted(test.user_ids[order], judges, side="right")
    starts = np.searchsorted(test.user_ids[order], judges)
    return [test.item_ids[order[start:end]] for start, end in zip(starts, ends, strict=True)]


def _rankers(
    model: TrainedModel, training: Interactions, known: Interactions, catalogue: Catalogue, k: int
) -> dict[str, Ranker]:
    """What makes lists of item ids (users, k) for users and what they have met, by model."""
    popular, item_ids = catalogue.popularity, catalogue.item_ids
    near = baselines.item_neighbours(training, item_ids)
    rankers: dict[str, Ranker] = {
        OURS: lambda users, _: ranked_lists(model, known, users, k).item_ids,
        TOWERS: lambda users, _: ranked_lists(model, known, users, k, ranker=False).item_ids,
        "item_knn": lambda _, met: baselines.item_knn_lists(near, popular, met, item_ids, k),
        "popularity": lambda _, met: baselines.popular_lists(popular, met, item_ids, k),
    }
    return rankers


def _simple_rankers(
    vectors: TrainedVectors, catalogue: Catalogue, k: int, seed: int, progress: ProgressCallback
) -> dict[str, Ranker]:
    """The methods for unseen users that others have published: averages and clusters."""
    by_id = np.argsort(vectors.item_ids)
    items = vectors.item_embeddings[by_id]
    popular, item_ids = catalogue.popularity, catalogue.item_ids
    rankers: dict[str, Ranker] = {
        "weighted_average": lambda _, met: simple_lists.average_lists(
            items, met.newest(vectors.max_history), met, item_ids, k
        )
    }
    methods: tuple[ClusterMethod, ...] = ("kmeans", "gmm") if clusters.available() else ()
    for method in methods:
        found = clusters.fit_clusters(item_ids, items, method, seed=seed, progress=progress)

        def rank(_: Index, met: Met, found: Clusters = found) -> Index:
            telling = met.newest(vectors.max_history)
            return simple_lists.cluster_lists(found, items, popular, (telling, met), k)

        rankers[f"cluster_{method}"] = rank
    return rankers


def _lists(
    rankers: Mapping[str, Ranker],
    judges: Index,
    known: Interactions,
    item_ids: Index,
    progress: ProgressCallback,
) -> dict[str, Index]:
    """Item ids (judges, k) by each model, of the whole catalogue less what a user has met."""
    parts: dict[str, list[Index]] = {name: [] for name in rankers}
    total = len(judges) * len(rankers)
    for start in range(0, len(judges), _USERS_AT_ONCE):
        users = judges[start : start + _USERS_AT_ONCE]
        met = met_by(known, users, item_ids)
        for place, (name, rank) in enumerate(rankers.items()):
            parts[name].append(rank(users, met))
            done = start * len(rankers) + (place + 1) * len(users)
            progress(Progress("rank", done, total))
    return {name: np.concatenate(found) for name, found in parts.items()}


def _judge_predictions(
    judged: dict[str, Judged],
    model: TrainedModel,
    known: Interactions,
    judges: Index,
    test: Interactions,
) -> None:
    """Add to `judged` how well the rated held-out interactions are predicted."""
    rated = test.select(~np.isnan(test.ratings))
    vectors = model.vectors
    user = np.searchsorted(judges, rated.user_ids)
    embedded = user_vectors(vectors, met_by(known, judges, vectors.item_ids), judges)
    items = vectors.item_embeddings[np.searchsorted(vectors.item_ids, rated.item_ids)]
    predicted = {
        OURS: np.sum(embedded[user] * items, axis=1),
        "biases": baselines.bias_predictions(known, rated.user_ids, rated.item_ids),
    }
    for name, values in predicted.items():
        one = judge_ratings(values.clip(0, 10), rated.ratings, user, len(judges))
        if name in judged:
            one = replace(judged[name], metrics=judged[name].metrics | one.metrics)
        judged[name] = one


def _sizes(groups: Index, relevant: list[Index]) -> dict[str, int]:
    counted = groups[[len(wanted) > 0 for wanted in relevant]]
    sizes = np.bincount(counted, minlength=len(USER_GROUPS)).tolist()
    return dict(zip(USER_GROUPS, sizes, strict=True))
