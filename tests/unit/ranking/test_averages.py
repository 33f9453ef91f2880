"""Weighted averages of vectors, and the order of clusters."""

from __future__ import annotations

import numpy as np
import pytest

from tterec.ranking.averages import nearest_first, rating_weights, weighted_average

NAN = np.nan


@pytest.mark.parametrize(
    ("ratings", "expected"),
    [
        ([8, 2], [8, 2]),
        ([8, NAN, 4], [8, 6, 4]),
        ([NAN, NAN], [1, 1]),
        ([0, 0], [1, 1]),
        ([0, NAN], [1, 1]),
        ([0, 5], [0, 5]),
    ],
)
def test_an_item_counts_as_it_is_rated(ratings: list[float], expected: list[float]) -> None:
    assert rating_weights(np.array(ratings)).tolist() == expected


def test_the_average_is_that_of_the_paper() -> None:
    vectors = np.array([[1.0, 0.0], [0.0, 1.0]], dtype=np.float32)
    average = weighted_average(vectors, np.array([9.0, 3.0], dtype=np.float32))
    assert average is not None
    assert average.tolist() == [0.75, 0.25]


def test_nothing_met_and_what_cancels_out_have_no_direction() -> None:
    assert weighted_average(np.zeros((0, 2)), np.zeros(0)) is None
    assert weighted_average(np.array([[1.0, 0], [-1, 0]]), np.array([5.0, 5])) is None


def test_clusters_come_by_distance_equal_ones_by_number() -> None:
    centres = np.array([[0.0, 3.0], [1.0, 0.0], [-1.0, 0.0], [0.1, 0.0]])
    assert nearest_first(np.zeros(2), centres).tolist() == [3, 1, 2, 0]
