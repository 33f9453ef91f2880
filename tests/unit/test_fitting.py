"""Fitting both stages: the second one stays only where it helps, and sees nothing held out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.unit.towers.worlds import World, interactions_of, planted_series
from tterec import fitting
from tterec.config import TrainingConfig
from tterec.evaluation import ndcg_at_k
from tterec.ranking import mixture, second_stage
from tterec.ranking.lists import ranked_lists
from tterec.records import FeatureTable, Progress, TrainedModel, TrainedVectors

CONFIG = TrainingConfig(dim=16, epochs=4, threads=1)


@pytest.fixture(scope="module")
def series() -> World:
    return planted_series()


@pytest.fixture(scope="module")
def model(series: World) -> TrainedModel:
    return fitting.fit(series.interactions, series.users, series.items, CONFIG)


def ndcg(model: TrainedModel, world: World, ranker: bool) -> float:
    """Mean NDCG@20 on the world's held-out interactions."""
    held_out = world.held_out
    users = np.unique(held_out.user_ids)
    relevant = [held_out.item_ids[held_out.user_ids == user] for user in users]
    found = ranked_lists(model, world.interactions, users, 20, ranker=ranker)
    return float(np.nanmean(ndcg_at_k(found.item_ids, relevant, 20)))


def test_both_stages_do_better_than_one(series: World, model: TrainedModel) -> None:
    assert model.ranker is not None
    assert ndcg(model, series, ranker=True) > ndcg(model, series, ranker=False)
    metrics = model.metrics
    assert metrics["validation_ndcg_at_20_ranker"] > metrics["validation_ndcg_at_20_towers"]
    assert metrics["validation_ndcg_at_20_towers"] == pytest.approx(
        metrics["validation_ndcg_at_20"], abs=0.002
    )


def test_the_setting_turns_it_off(series: World) -> None:
    off = replace(CONFIG, epochs=1, ranker=False)
    model = fitting.fit(series.interactions, series.users, series.items, off)
    assert model.ranker is None
    assert "validation_ndcg_at_20_ranker" not in model.metrics


def test_the_mixture_is_chosen_without_the_validation_interactions(
    series: World, model: TrainedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the first fit of weights gets, and what the mixture ranks from."""
    counts: list[int] = []
    fit_item_weights = second_stage.fit_item_weights

    def counted(met, *arguments, **named):  # type: ignore[no-untyped-def]
        counts.append(met.nnz)
        return fit_item_weights(met, *arguments, **named)

    mix, known = mixture.mix, []

    def watched(ranker, traits, vectors, rest, validation):  # type: ignore[no-untyped-def]
        known.append((rest, validation))
        return mix(ranker, traits, vectors, rest, validation)

    monkeypatch.setattr(second_stage, "fit_item_weights", counted)
    monkeypatch.setattr(mixture, "mix", watched)
    fitting.with_ranker(replace(model, ranker=None), series.interactions, series.items)
    ((rest, validation),) = known
    assert counts == [len(series.interactions) - len(validation), len(series.interactions)]
    pairs = {*zip(rest.user_ids.tolist(), rest.item_ids.tolist(), strict=True)}
    held_out = {*zip(validation.user_ids.tolist(), validation.item_ids.tolist(), strict=True)}
    assert len(held_out) > 200
    assert not pairs & held_out


def test_it_stays_off_where_it_does_not_help() -> None:
    """By the towers everybody's held-out item 2 is first, barely before 1. But those who met 0
    met 1 as well."""
    met = [(user, 0) for user in range(300)] + [(user, 1) for user in range(100, 300)]
    held_out = [(user, 2) for user in range(100)]
    embeddings = np.full((9, 1), -1.0, dtype=np.float32)
    embeddings[1:3, 0] = 1.0, 1.01
    nobody = np.zeros(0, dtype=np.int64)
    vectors = TrainedVectors(
        np.arange(9),
        embeddings,
        np.zeros_like(embeddings),
        nobody,
        embeddings[nobody],
        np.ones(1, dtype=np.float32),
        np.ones(12),
        normalised=False,
        max_history=200,
    )
    validation = interactions_of(*np.array(held_out).T)
    model = TrainedModel(vectors, b"", {}, validation=validation)
    said: list[Progress] = []
    found = fitting.with_ranker(
        model, interactions_of(*np.array(met + held_out).T), FeatureTable(np.arange(9)), said.append
    )
    assert found.ranker is None
    assert found.metrics["validation_ndcg_at_20_towers"] == 1.0
    assert found.metrics["validation_ndcg_at_20_ranker"] < 1.0
    assert "it stays off" in next(one.message for one in said if one.message)
