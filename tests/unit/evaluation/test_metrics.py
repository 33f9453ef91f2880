"""Metric values computed by hand, and properties that hold for any lists."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tterec.errors import InvalidArgument
from tterec.evaluation import (
    average_precision_at_k,
    mae,
    ndcg_at_k,
    ndcg_of_ranks,
    precision_at_k,
    recall_at_k,
    reciprocal_rank,
    rmse,
)

# Two users: hits at ranks 1 and 3 of three relevant items; a hit at rank 2 of one.
RANKED = np.array([[10, 11, 12, 13], [20, 21, 22, 23]])
RELEVANT = [{10, 12, 99}, {21}]


def test_ndcg_divides_the_gain_by_that_of_the_best_list() -> None:
    ideal = 1 + 1 / math.log2(3) + 1 / 2
    expected = [(1 + 1 / 2) / ideal, 1 / math.log2(3)]
    assert ndcg_at_k(RANKED, RELEVANT, 4) == pytest.approx(expected)


def test_ndcg_of_a_short_list_has_an_ideal_of_that_length() -> None:
    assert ndcg_at_k(RANKED, RELEVANT, 1) == pytest.approx([1.0, 0.0])


def test_ndcg_of_ranks_is_ndcg_of_one_relevant_item() -> None:
    ranks = np.array([1, 2, 4, 5])
    lists = np.arange(4) + np.array([[1], [1], [1], [1]])  # items 1 to 4, for everyone
    expected = ndcg_at_k(lists, [[1], [2], [4], [5]], 4)
    assert ndcg_of_ranks(ranks, 4) == pytest.approx(expected)


def test_recall_counts_all_relevant_items() -> None:
    assert recall_at_k(RANKED, RELEVANT, 3) == pytest.approx([2 / 3, 1.0])


def test_precision_counts_all_places() -> None:
    assert precision_at_k(RANKED, RELEVANT, 4) == pytest.approx([2 / 4, 1 / 4])


def test_average_precision_is_the_mean_precision_at_the_hits() -> None:
    assert average_precision_at_k(RANKED, RELEVANT, 4) == pytest.approx(
        [(1 / 1 + 2 / 3) / 3, (1 / 2) / 1]
    )


def test_reciprocal_rank_looks_at_the_first_hit() -> None:
    assert reciprocal_rank(RANKED, RELEVANT, 4) == pytest.approx([1.0, 1 / 2])
    assert reciprocal_rank(RANKED, RELEVANT, 1) == pytest.approx([1.0, 0.0])


def test_rmse_and_mae() -> None:
    predicted, actual = np.array([3.0, 5.0]), np.array([4.0, 8.0])
    assert rmse(predicted, actual) == pytest.approx(math.sqrt((1 + 9) / 2))
    assert mae(predicted, actual) == pytest.approx(2.0)
    assert math.isnan(rmse(np.array([]), np.array([])))
    assert math.isnan(mae(np.array([]), np.array([])))


METRICS = [ndcg_at_k, recall_at_k, precision_at_k, average_precision_at_k, reciprocal_rank]
by_metric = pytest.mark.parametrize("metric", METRICS)
Metric = Callable[..., np.ndarray]


@by_metric
def test_a_user_without_relevant_items_has_no_value(metric: Metric) -> None:
    assert np.isnan(metric(RANKED, [set(), {21}], 4)).tolist() == [True, False]


@by_metric
def test_padding_is_no_hit(metric: Metric) -> None:
    assert metric(np.array([[-1, -1]]), [{-1, 5}], 2).tolist() == [0.0]


@by_metric
def test_lists_shorter_than_k_are_taken_as_they_are(metric: Metric) -> None:
    assert metric(np.array([[7]]), [{7}], 1) == pytest.approx([1.0])
    assert metric(np.array([[8]]), [{7}], 20) == pytest.approx([0.0])


@by_metric
def test_bad_arguments_are_named(metric: Metric) -> None:
    with pytest.raises(InvalidArgument, match="k = 0"):
        metric(RANKED, RELEVANT, 0)
    with pytest.raises(InvalidArgument, match="2 ranked lists but 1"):
        metric(RANKED, [{1}], 2)


lists = st.lists(st.integers(0, 30), min_size=1, max_size=20, unique=True)


@given(ranked=lists, relevant=st.sets(st.integers(0, 30), min_size=1), k=st.integers(1, 25))
def test_metrics_lie_between_nothing_and_one(ranked: list[int], relevant: set[int], k: int) -> None:
    for metric in METRICS:
        value = metric(np.array([ranked]), [relevant], k)[0]
        assert 0.0 <= value <= 1.0 + 1e-12


@given(relevant=lists, k=st.integers(1, 20))
def test_a_perfect_list_is_perfect(relevant: list[int], k: int) -> None:
    for metric in (ndcg_at_k, average_precision_at_k, reciprocal_rank):
        assert metric(np.array([relevant]), [relevant], k)[0] == pytest.approx(1.0)


@given(ranked=lists, relevant=st.sets(st.integers(0, 30), min_size=1), k=st.integers(1, 25))
def test_moving_a_hit_up_is_never_worse(ranked: list[int], relevant: set[int], k: int) -> None:
    hits = [place for place, item in enumerate(ranked) if item in relevant and place > 0]
    if not hits:
        return
    better = list(ranked)
    place = hits[0]
    better[place - 1], better[place] = better[place], better[place - 1]
    for metric in METRICS:
        before, after = (metric(np.array([items]), [relevant], k)[0] for items in (ranked, better))
        assert after >= before - 1e-12


@given(
    values=st.lists(st.tuples(st.floats(0, 10), st.floats(0, 10)), min_size=1, max_size=30),
)
def test_mae_is_at_most_rmse(values: list[tuple[float, float]]) -> None:
    predicted, actual = np.array(values).T
    assert mae(predicted, actual) <= rmse(predicted, actual) + 1e-9
