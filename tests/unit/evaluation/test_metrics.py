"""Metric values computed by hand, and properties that hold for any lists."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import (
    average_precision_score,
    mean_absolute_error,
    ndcg_score,
    precision_score,
    recall_score,
    root_mean_squared_error,
)

from tterec.errors import InvalidArgument
from tterec.evaluation import (
    average_precision_at_k,
    coverage,
    hit_rate_at_k,
    mae,
    ndcg_at_k,
    ndcg_of_ranks,
    novelty,
    precision_at_k,
    recall_at_k,
    reciprocal_rank,
    rmse,
    share_of,
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


def test_a_hit_is_a_hit_wherever_it_stands() -> None:
    assert hit_rate_at_k(RANKED, RELEVANT, 4).tolist() == [1.0, 1.0]
    assert hit_rate_at_k(RANKED, RELEVANT, 1).tolist() == [1.0, 0.0]


def test_coverage_counts_an_item_once() -> None:
    assert coverage(np.array([[3, 5], [5, -1], [3, 8]]), catalogue=12) == 3 / 12
    assert coverage(np.array([[-1, -1]]), catalogue=12) == 0.0


def test_novelty_is_the_mean_surprise_in_bits() -> None:
    items, met_by = np.array([2, 4, 6]), np.array([7, 1, 0])  # of 7 users
    lists = np.array([[2, 4], [6, -1], [-1, -1]])
    bits = novelty(lists, items, met_by, users=7)
    assert bits[:2].tolist() == [(-math.log2(8 / 8) - math.log2(2 / 8)) / 2, -math.log2(1 / 8)]
    assert math.isnan(bits[2])


def test_the_share_of_chosen_items_is_that_of_the_list_and_not_of_k() -> None:
    items, chosen = np.array([2, 4, 6]), np.array([True, False, True])
    shares = share_of(np.array([[2, 4, 6], [4, 2, -1], [-1, -1, -1]]), items, chosen)
    assert shares[:2].tolist() == [2 / 3, 1 / 2]
    assert math.isnan(shares[2])


def test_rmse_and_mae() -> None:
    predicted, actual = np.array([3.0, 5.0]), np.array([4.0, 8.0])
    assert rmse(predicted, actual) == pytest.approx(math.sqrt((1 + 9) / 2))
    assert mae(predicted, actual) == pytest.approx(2.0)
    assert math.isnan(rmse(np.array([]), np.array([])))
    assert math.isnan(mae(np.array([]), np.array([])))


METRICS = [
    ndcg_at_k,
    recall_at_k,
    precision_at_k,
    average_precision_at_k,
    reciprocal_rank,
    hit_rate_at_k,
]
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


@pytest.mark.parametrize("k", [1, 5, 20, 60])
def test_values_are_those_of_scikit_learn(k: int) -> None:
    rng = np.random.default_rng(k)
    scores = rng.permuted(np.tile(np.arange(60.0), (50, 1)), axis=1)
    wanted = rng.random((50, 60)) < 0.1
    wanted[:, 0] |= ~wanted.any(axis=1)
    ranked = np.argsort(-scores, axis=1)
    relevant = [np.flatnonzero(row) for row in wanted]
    listed = scores >= 60 - k
    ndcg = [ndcg_score([y], [s], k=k) for y, s in zip(wanted, scores, strict=True)]
    assert ndcg_at_k(ranked, relevant, k) == pytest.approx(ndcg)
    recall = recall_score(wanted, listed, average="samples")
    assert recall_at_k(ranked, relevant, k).mean() == pytest.approx(recall)
    precision = precision_score(wanted, listed, average="samples")
    assert precision_at_k(ranked, relevant, k).mean() == pytest.approx(precision)
    # Theirs has no k: what is not in the list has no precision, which is theirs of the whole.
    whole = average_precision_score(wanted, scores, average="samples")
    assert average_precision_at_k(ranked, relevant, 60).mean() == pytest.approx(whole)


def test_errors_are_those_of_scikit_learn() -> None:
    actual, predicted = np.random.default_rng(0).random((2, 100)) * 10
    assert rmse(predicted, actual) == pytest.approx(root_mean_squared_error(actual, predicted))
    assert mae(predicted, actual) == pytest.approx(mean_absolute_error(actual, predicted))


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
