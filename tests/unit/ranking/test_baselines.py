"""The baselines, against the textbook's formulas on dense matrices."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tterec.ranking import baselines
from tterec.ranking.histories import met_by
from tterec.records import Interactions


def interactions(pairs: list[tuple[int, int]], ratings: list[float] | None = None) -> Interactions:
    users, items = np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2).T
    unknown = np.full(len(users), np.nan)
    given = unknown if ratings is None else np.array(ratings)
    return Interactions(users, items, given.astype(np.float32), unknown)


# Item ids 10, 20, ...; users 1 to 4. 10 is met by three, 20 and 30 by two, 40 by one, 50 by none.
ITEMS = np.array([10, 20, 30, 40, 50])
KNOWN = interactions([(1, 10), (1, 20), (2, 10), (2, 20), (3, 10), (3, 30), (4, 30), (4, 40)])
USERS = np.array([1, 3, 9])


def test_popularity_counts_users_and_not_items_that_the_catalogue_lacks() -> None:
    assert baselines.popularity(KNOWN, ITEMS).tolist() == [3, 2, 2, 1, 0]
    assert baselines.popularity(KNOWN, ITEMS[1:3]).tolist() == [2, 2]
    assert baselines.popularity(KNOWN, ITEMS[:0]).tolist() == []


def test_popular_lists_leave_out_what_is_met_and_rank_ties_by_id() -> None:
    popular = baselines.popularity(KNOWN, ITEMS)
    lists = baselines.popular_lists(popular, met_by(KNOWN, USERS, ITEMS), ITEMS, k=4)
    assert lists.tolist() == [[30, 40, 50, -1], [20, 40, 50, -1], [10, 20, 30, 40]]


def test_the_nearest_items_are_those_with_the_greatest_cosine() -> None:
    near = baselines.item_neighbours(KNOWN, ITEMS, neighbours=1, shrinkage=0).toarray()
    assert near[0].tolist() == pytest.approx([0, 2 / np.sqrt(6), 0, 0, 0])
    assert near[2].tolist() == pytest.approx([0, 0, 0, 1 / np.sqrt(2), 0])
    assert not near[4].any()


def test_few_common_users_count_less() -> None:
    near = baselines.item_neighbours(KNOWN, ITEMS, shrinkage=3).toarray()
    assert near[0].tolist() == pytest.approx([0, 2 / (6**0.5 + 3), 1 / (6**0.5 + 3), 0, 0])


def test_item_knn_sums_cosines_and_goes_on_by_popularity() -> None:
    popular = baselines.popularity(KNOWN, ITEMS)
    near = baselines.item_neighbours(KNOWN, ITEMS, shrinkage=0)
    met = met_by(KNOWN, USERS, ITEMS)
    lists = baselines.item_knn_lists(near, popular, met, ITEMS, k=3)
    # User 3 met 10 and 30: 20 is .816 from 10, 40 is .707 from 30. Of user 9 nothing is known.
    assert lists.tolist() == [[30, 40, 50], [20, 40, 50], [10, 20, 30]]


@given(
    pairs=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 15)), unique=True, max_size=90),
    neighbours=st.integers(1, 15),
    at_once=st.sampled_from([1, 30, 10_000]),
)
def test_neighbours_are_those_of_the_dense_product(
    pairs: list[tuple[int, int]], neighbours: int, at_once: int
) -> None:
    known, items = interactions(pairs), np.arange(16)
    matrix = np.zeros((13, 16))
    matrix[known.user_ids, known.item_ids] = 1
    norms = np.linalg.norm(matrix, axis=0)
    cosines = (matrix.T @ matrix) / (np.outer(norms, norms) + 2)
    np.fill_diagonal(cosines, 0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(baselines, "_PRODUCTS_AT_ONCE", at_once)
        near = baselines.item_neighbours(known, items, neighbours, shrinkage=2).toarray()
    for row, dense in zip(near, cosines, strict=True):
        best = np.sort(dense)[::-1][:neighbours]
        np.testing.assert_allclose(np.sort(row)[::-1][:neighbours], best, atol=1e-12)
        np.testing.assert_allclose(row[row > 0], dense[row > 0])


def test_biases_are_damped_differences_from_the_mean() -> None:
    known = interactions([(1, 10), (1, 20), (2, 10)], [9, 5, 7])
    predicted = baselines.bias_predictions(known, np.array([1, 2, 8]), np.array([10, 20, 90]))
    item_10, item_20 = (2 + 0) / (2 + 5), -2 / (1 + 5)
    user_1 = ((2 - item_10) + (-2 - item_20)) / (2 + 5)
    user_2 = (0 - item_10) / (1 + 5)
    assert predicted == pytest.approx([7 + item_10 + user_1, 7 + item_20 + user_2, 7])


def test_without_ratings_nothing_is_predicted() -> None:
    assert np.isnan(baselines.bias_predictions(KNOWN, np.array([1]), np.array([10]))).all()
