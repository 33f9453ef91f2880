"""Budgets, what is searched, what a trial is judged by, and how like two sets of data are."""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.towers.worlds import interactions_of
from tterec import config, errors, tuning
from tterec.config import TrainingConfig
from tterec.search_space import search_space
from tterec.store.trials import Choice, Span, overlap

OBJECTIVES = config.choices("objective")


@pytest.mark.parametrize(
    ("budget", "seconds"),
    [("90s", 90), ("20m", 1200), ("2h", 7200), ("1.5h", 5400), (" 5m ", 300), ("720h", 2592000)],
)
def test_a_budget_is_a_number_and_a_unit(budget: str, seconds: float) -> None:
    assert tuning.seconds_of(budget) == seconds


@pytest.mark.parametrize(
    "budget", ["", "20", "m", "20 m", "-5m", "0s", "0.0h", "721h", "1e3s", "nan", "٣m", "5m\n5m"]
)
def test_what_is_no_budget_is_refused_in_one_line(budget: str) -> None:
    with pytest.raises(errors.InvalidArgument, match="write it like 90s, 20m or 2h") as told:
        tuning.seconds_of(budget)
    assert "\n" not in str(told.value)


@given(st.text(max_size=12))
def test_any_text_is_a_budget_or_refused(text: str) -> None:
    with suppress(errors.InvalidArgument):
        assert 0 < tuning.seconds_of(text) < math.inf


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_is_searched_around_defaults_that_training_accepts(objective: str) -> None:
    default = TrainingConfig(objective=objective)
    space = search_space(objective)
    assert len(space) == len({one.name for one in space}) > 4
    for one in space:
        value = getattr(default, one.name)
        if isinstance(one, Span):
            ends = (one.low, one.high)
            assert one.low <= value <= one.high
            assert type(value) is float
        else:
            ends = (one.values[0], one.values[-1])
            assert value in one.values
            assert len(one.values) > 1
        for end in ends:
            replace(default, **{one.name: end})  # raises where it is out of range


def test_what_is_fixed_is_not_searched() -> None:
    names = {one.name for one in search_space("softmax")}
    assert {one.name for one in search_space("softmax", {"dim", "device"})} == names - {"dim"}
    with pytest.raises(errors.ConfigError, match=r"dim.*leave some of them out"):
        search_space("softmax", names)


def test_an_objective_is_not_searched_for_settings_that_it_ignores() -> None:
    softmax, mse = ({one.name for one in search_space(name)} for name in ("softmax", "mse"))
    assert "temperature" in softmax - mse
    assert {"gamma", "regulariser"} <= mse - softmax


def test_log_spans_reach_as_far_below_the_default_as_above() -> None:
    found = {one.name: one for one in search_space("softmax")}
    assert found["learning_rate"] == Span("learning_rate", 0.0025, 0.04, log=True)
    assert found["dim"] == Choice("dim", (32, 64, 128))


def test_a_trial_is_judged_by_ndcg_and_with_mse_by_rmse() -> None:
    metrics = {"validation_ndcg_at_20": 0.25, "validation_rmse": 1.5, "seconds": 3.0}
    assert tuning.figure_of(metrics, "softmax") == 0.25
    assert tuning.figure_of(metrics, "mse") == 1.5
    assert tuning.figure_of(metrics | {"validation_ndcg_at_20_ranker": 0.3}, "softmax") == 0.3
    assert tuning.figure_of(metrics | {"validation_ndcg_at_20_ranker": 0.2}, "softmax") == 0.25
    with pytest.raises(errors.TrainingError, match="held out"):
        tuning.figure_of({"validation_ndcg_at_20": None}, "softmax")


def pairs(count: int, first: int = 0) -> list[int]:
    """The sketch of `count` interactions, numbered from `first`."""
    numbers = np.arange(first, first + count)
    return tuning.sketch_of(interactions_of(numbers // 7, numbers * 13 % 1009))


def test_sketches_tell_how_many_interactions_two_sets_share() -> None:
    assert overlap(pairs(100), pairs(100)) == 1
    assert overlap(pairs(100), pairs(100, first=200)) == 0
    assert overlap(pairs(100), pairs(104)) == pytest.approx(100 / 104)  # all are in the sketch
    assert overlap(pairs(5000), pairs(5000, first=2500)) == pytest.approx(1 / 3, abs=0.1)
    assert overlap(pairs(7000), pairs(7010)) > 0.97
    assert overlap([], []) == 0
    assert len(pairs(5000)) == 256


def test_a_sketch_does_not_depend_on_the_order() -> None:
    users, items = np.array([1, 2, 3]), np.array([7, 8, 9])
    one, other = interactions_of(users, items), interactions_of(users[::-1], items[::-1])
    assert tuning.sketch_of(one) == tuning.sketch_of(other)
    assert tuning.sketch_of(one) != tuning.sketch_of(interactions_of(items, users))
