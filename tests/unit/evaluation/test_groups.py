"""Who and what belongs to which group."""

import numpy as np

from tterec.evaluation.groups import item_classes, user_groups


def test_users_are_grouped_by_what_is_known_of_them() -> None:
    assert user_groups(np.array([0, 1, 4, 5, 19, 20, 9000])).tolist() == [0, 1, 1, 2, 2, 3, 3]


def test_the_head_is_the_most_popular_percent_and_the_middle_the_rest_of_a_fifth() -> None:
    popularity = np.random.default_rng(0).permutation(200)
    classes = item_classes(popularity)
    assert np.bincount(classes).tolist() == [2, 38, 160]
    assert set(popularity[classes == 0]) == {198, 199}
    assert popularity[classes == 1].min() == 160


def test_equally_popular_items_are_classed_by_row_and_a_small_catalogue_has_a_head() -> None:
    assert item_classes(np.array([5, 5, 5, 5, 5, 5])).tolist() == [0, 1, 2, 2, 2, 2]
    assert item_classes(np.array([7])).tolist() == [0]
