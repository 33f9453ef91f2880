"""Judging a model: what it may learn from, and what the figures say of it."""

from __future__ import annotations

import importlib.util
from dataclasses import replace

import numpy as np
import pytest

from tests.unit.towers.worlds import interactions_of, planted_tastes
from tterec import fitting
from tterec.config import TrainingConfig
from tterec.errors import EvaluationError, InvalidArgument
from tterec.evaluation.holdouts import hold_out
from tterec.judging import Fit, Protocol, Report, judge
from tterec.records import (
    FeatureTable,
    Figure,
    Interactions,
    ProgressCallback,
    TrainedModel,
    ignore,
)

SMALL = TrainingConfig(dim=16, epochs=4, batch_size=256, threads=1)


def joined(first: Interactions, second: Interactions) -> Interactions:
    """Ordered by user, then item, as they are read."""
    pairs = {
        name: np.concatenate([getattr(first, name), getattr(second, name)])
        for name in ("user_ids", "item_ids", "ratings", "rated_at")
    }
    order = np.lexsort((pairs["item_ids"], pairs["user_ids"]))
    return Interactions(**pairs).select(order)


@pytest.fixture(scope="module")
def tastes() -> tuple[Interactions, FeatureTable, FeatureTable]:
    """400 users of six tastes, with 20 of 240 items each."""
    world = planted_tastes()
    return joined(world.interactions, world.held_out), world.users, world.items


# Pairs drawn blindly: of a held-out one nothing can be known but by having seen it.
NOISE_USERS, NOISE_ITEMS, NOISE_EACH = 150, 300, 20
MEMORISING = TrainingConfig(
    dim=64,
    epochs=4,
    batch_size=256,
    learning_rate=0.05,
    weight_decay=0.0,
    id_dropout=0.0,
    validation_users=0,
    threads=1,
)


def noise() -> tuple[Interactions, FeatureTable, FeatureTable]:
    rng = np.random.default_rng(11)
    items = [rng.choice(NOISE_ITEMS, NOISE_EACH, replace=False) for _ in range(NOISE_USERS)]
    users = np.repeat(np.arange(NOISE_USERS), NOISE_EACH)
    tables = FeatureTable(np.arange(NOISE_USERS)), FeatureTable(np.arange(NOISE_ITEMS))
    return interactions_of(users, np.sort(items, axis=1).ravel()), *tables


def ndcg_of_noise(fit: Fit) -> Figure:
    """NDCG@20 of pairs that only a leak can tell."""
    return judge(*noise(), MEMORISING, Protocol(), fit=fit).models["tterec"].overall["ndcg"]


def chance() -> float:
    """Mean NDCG@20 of lists drawn blindly: 4 of 284 items are relevant, so each place hits with
    probability 4/284, and Σ 1/log2(r + 1) over ranks 1 to 20 is divided by that over 1 to 4."""
    gains = 1 / np.log2(np.arange(2, 22))
    return float(gains.sum() * 4 / 284 / gains[:4].sum())


def test_of_noise_nothing_is_found_unless_the_fit_has_seen_the_test_share() -> None:
    interactions, _, _ = noise()

    def leaking(
        _: Interactions,
        users: FeatureTable,
        items: FeatureTable,
        config: TrainingConfig,
        progress: ProgressCallback,
    ) -> TrainedModel:
        return fitting.fit(interactions, users, items, config, progress)

    honest, leaked = ndcg_of_noise(fitting.fit), ndcg_of_noise(leaking)
    assert honest.low < chance() < honest.high  # type: ignore[operator]
    assert leaked.low > 5 * chance()  # type: ignore[operator]


@pytest.mark.parametrize("split", ["random", "leave-one-out", "unseen-users"])
def test_the_fit_is_given_the_training_part_only(
    tastes: tuple[Interactions, FeatureTable, FeatureTable], split: str
) -> None:
    given: list[Interactions] = []
    tables: list[FeatureTable] = []

    def watching(
        interactions: Interactions,
        users: FeatureTable,
        items: FeatureTable,
        config: TrainingConfig,
        progress: ProgressCallback,
    ) -> TrainedModel:
        given.append(interactions)
        tables.append(users)
        return fitting.fit(interactions, users, items, config, progress)

    report = judge(*tastes, replace(SMALL, epochs=1), Protocol(split=split), fit=watching)
    holdout = hold_out(split, tastes[0], share=0.2, seed=0)
    assert np.array_equal(given[0].user_ids, tastes[0].user_ids[holdout.training])
    assert np.array_equal(given[0].item_ids, tastes[0].item_ids[holdout.training])
    assert (report.training, report.shown, report.test) == (
        holdout.training.sum(),
        holdout.shown.sum(),
        holdout.test.sum(),
    )
    unseen = set(tastes[0].user_ids[holdout.shown])
    assert set(tables[0].ids) == set(tastes[1].ids) - unseen
    assert all(len(column.values) == len(tables[0]) for column in tables[0].columns)


@pytest.fixture(scope="module")
def report(tastes: tuple[Interactions, FeatureTable, FeatureTable]) -> Report:
    return judge(*tastes, SMALL, Protocol(), progress=ignore)


SIMPLE = ("weighted_average", "cluster_kmeans", "cluster_gmm")


def test_unseen_users_are_judged_by_the_simpler_methods_too(
    tastes: tuple[Interactions, FeatureTable, FeatureTable],
) -> None:
    report = judge(*tastes, SMALL, Protocol(split="unseen-users", k=10))
    assert report.models.keys() == {"tterec", "towers", "item_knn", "popularity", *SIMPLE}
    assert report.left_out is None
    for model in SIMPLE:  # planted tastes are clumps, in which an average lies
        for metric in ("precision", "map", "ndcg"):
            assert value(report, model, metric) > 1.1 * value(report, "popularity", metric)


def test_without_scikit_learn_the_report_says_what_is_left_out(
    tastes: tuple[Interactions, FeatureTable, FeatureTable], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    report = judge(*tastes, replace(SMALL, epochs=1), Protocol(split="unseen-users"))
    assert "weighted_average" in report.models
    assert not {"cluster_kmeans", "cluster_gmm"} & report.models.keys()
    assert report.left_out is not None
    assert "pip install 'tterec[cluster]'" in report.left_out


def value(report: Report, model: str, metric: str) -> float:
    figure = report.models[model].overall[metric]
    assert figure.value is not None
    return figure.value


def test_tastes_are_found_by_what_can_find_them(report: Report) -> None:
    assert value(report, "tterec", "ndcg") > 1.3 * value(report, "popularity", "ndcg")
    assert value(report, "item_knn", "ndcg") > 1.3 * value(report, "popularity", "ndcg")
    assert value(report, "tterec", "coverage") > 2 * value(report, "popularity", "coverage")
    assert value(report, "tterec", "novelty") > value(report, "popularity", "novelty")


def test_every_figure_that_is_a_mean_lies_in_its_interval(report: Report) -> None:
    for model in report.models.values():
        for metric, figure in model.overall.items():
            if metric != "coverage":
                assert figure.low <= figure.value <= figure.high  # type: ignore[operator]


def test_the_report_says_what_was_judged(report: Report) -> None:
    assert (report.split, report.share, report.k) == ("random", 0.2, 20)
    assert (report.training, report.test, report.items) == (6400, 1600, 240)
    assert report.users == 400
    assert report.by_user_ratings == {"0": 0, "1-4": 0, "5-19": 400, "20+": 0}
    assert [(one.model, one.minus) for one in report.differences] == [
        ("tterec", "item_knn"),
        ("tterec", "towers"),
    ]
    assert report.differences[0].figures["ndcg"].value == pytest.approx(
        value(report, "tterec", "ndcg") - value(report, "item_knn", "ndcg"), abs=2e-6
    )


def test_the_same_seed_gives_the_same_report(
    tastes: tuple[Interactions, FeatureTable, FeatureTable], report: Report
) -> None:
    assert judge(*tastes, SMALL, Protocol()) == report


def test_ratings_are_predicted_better_than_by_biases(
    tastes: tuple[Interactions, FeatureTable, FeatureTable],
) -> None:
    config = replace(SMALL, objective="mse", epochs=8)
    found = judge(*tastes, config, Protocol())
    assert value(found, "tterec", "rmse") < value(found, "biases", "rmse") < 2.0
    assert value(found, "tterec", "mae") < value(found, "tterec", "rmse")
    assert found.models["biases"].overall.keys() == {"rmse", "mae"}
    assert "rmse" not in found.models["popularity"].overall


def test_relevant_are_those_rated_enough_or_not_at_all_and_errors_are_of_all(
    tastes: tuple[Interactions, FeatureTable, FeatureTable],
) -> None:
    interactions, users, items = tastes
    ratings = interactions.ratings.copy()
    ratings[::7] = np.nan
    interactions = replace(interactions, ratings=ratings)
    test = hold_out("random", interactions, share=0.2, seed=0).test
    liked = test & ~(ratings < 9)
    config = replace(SMALL, epochs=1, objective="mse")
    all_, some = (
        judge(interactions, users, items, config, Protocol(relevant_from=least))
        for least in (None, 9.0)
    )
    assert all_.users == 400
    assert some.users == len(np.unique(interactions.user_ids[liked])) < 400
    assert value(some, "tterec", "rmse") == value(all_, "tterec", "rmse")
    with pytest.raises(EvaluationError, match="no held-out interaction is rated 11 or more"):
        judge(tastes[0], users, items, config, Protocol(relevant_from=11.0))


def test_a_part_of_the_users_judges_the_same_model(
    tastes: tuple[Interactions, FeatureTable, FeatureTable], report: Report
) -> None:
    some = judge(*tastes, SMALL, Protocol(users=100))
    assert (some.users, some.training) == (100, report.training)
    assert value(some, "tterec", "ndcg") == pytest.approx(value(report, "tterec", "ndcg"), abs=0.05)


def test_users_without_history_are_a_group_of_their_own() -> None:
    world = planted_tastes(users=60)
    one_each = interactions_of(np.arange(1000, 1200), np.arange(200) % 240)
    report = judge(
        joined(world.interactions, one_each), world.users, world.items, SMALL, Protocol()
    )
    assert 20 < report.by_user_ratings["0"] < 60
    assert sum(report.by_user_ratings.values()) == report.users
    assert report.models["tterec"].by_user_ratings["0"]["ndcg"].value is not None


@pytest.mark.parametrize(
    ("protocol", "complaint"),
    [
        ({"k": 0}, "k = 0 is out of range"),
        ({"users": 0}, "users = 0 is out of range"),
        ({"share": 1.5}, "share = 1.5 is out of range"),
        ({"relevant_from": float("nan")}, "relevant_from = nan is no rating"),
        ({"relevant_from": float("inf")}, "relevant_from = inf is no rating"),
        ({"split": "monthly"}, "split 'monthly' is unknown"),
    ],
)
def test_bad_protocols_are_named(protocol: dict[str, object], complaint: str) -> None:
    with pytest.raises(InvalidArgument, match=complaint):
        Protocol(**protocol)  # type: ignore[arg-type]
