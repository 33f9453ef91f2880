"""Figures of whole lists, computed by hand."""

import math

import numpy as np
import pytest

from tterec.evaluation.figures import Catalogue, Comparison, judge_lists, judge_ratings
from tterec.records import Figure

# 100 items, of which number 50 is the head (met by all 4 users), 0 to 18 the middle.
POPULARITY = np.zeros(100, dtype=np.int64)
POPULARITY[50], POPULARITY[:19] = 4, 1
CATALOGUE = Catalogue(np.arange(100), POPULARITY, users=4)

LISTS = np.array([[50, 1], [50, 2], [50, 3]])
WORSE = np.array([[1, 60], [7, 8], [9, 3]])
RELEVANT = [np.array([50, 60]), np.array([2]), np.array([], dtype=np.int64)]


def comparison() -> Comparison:
    judged = {
        "better": judge_lists(LISTS, RELEVANT, 2, CATALOGUE),
        "worse": judge_lists(WORSE, RELEVANT, 2, CATALOGUE),
    }
    return Comparison(judged, groups=np.array([0, 3, 3]), seed=0)


def test_means_are_over_users_with_relevant_items() -> None:
    found = comparison().figures("better").overall
    assert found["recall"].value == (1 / 2 + 1) / 2
    assert found["precision"].value == 1 / 2
    assert found["mrr"].value == (1 + 1 / 2) / 2
    assert found["hit_rate"] == Figure(1.0, 1.0, 1.0)
    ndcg = (1 / (1 + 1 / math.log2(3)) + 1 / math.log2(3)) / 2
    assert found["ndcg"].value == pytest.approx(ndcg, abs=1e-6)
    assert found["map"].value == (1 / 2 + 1 / 2) / 2


def test_figures_of_lists_need_no_relevant_items() -> None:
    found = comparison().figures("better").overall
    assert found["coverage"] == Figure(4 / 100)
    assert found["popularity_bias"] == Figure(1 / 2, 1 / 2, 1 / 2)
    bits = -(math.log2(5 / 5) + math.log2(2 / 5)) / 2
    assert found["novelty"].value == pytest.approx(bits, abs=1e-6)


def test_groups_are_of_their_users_only() -> None:
    by_group = comparison().figures("better").by_user_ratings
    assert by_group["0"]["recall"] == Figure(1 / 2, 1 / 2, 1 / 2)
    assert by_group["20+"]["recall"] == Figure(1.0, 1.0, 1.0)
    assert by_group["1-4"]["recall"] == Figure(None, None, None)


def test_items_are_classed_by_popularity() -> None:
    by_class = comparison().figures("better").by_item_popularity
    assert {name: found["recall"].value for name, found in by_class.items()} == {
        "head": 1.0,
        "middle": 1.0,
        "tail": 0.0,
    }


def test_a_difference_is_that_of_the_figures_and_its_interval_lies_around_it() -> None:
    both = comparison()
    assert both.value("worse", "recall") == (1 / 2 + 0) / 2
    difference = both.difference("better", "worse")
    assert difference["recall"] == Figure(3 / 4 - 1 / 4, 0.0, 1.0)  # of user 0 none, of user 1 all
    assert both.difference("better", "better")["ndcg"] == Figure(0.0, 0.0, 0.0)


def test_errors_of_predicted_ratings_are_over_ratings_and_not_over_users() -> None:
    predicted, actual = np.array([3.0, 5.0, 6.0]), np.array([4.0, 8.0, 6.0])
    judged = judge_ratings(predicted, actual, np.array([0, 0, 2]), users=3)
    found = Comparison({"model": judged}, np.array([1, 1, 2]), seed=0).figures("model")
    assert found.overall["rmse"].value == pytest.approx(math.sqrt(10 / 3), abs=1e-6)
    assert found.overall["mae"].value == pytest.approx(4 / 3, abs=1e-6)
    assert found.by_user_ratings["1-4"]["rmse"].value == pytest.approx(math.sqrt(5), abs=1e-6)
    assert found.by_item_popularity == {}
