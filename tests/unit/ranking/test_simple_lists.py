"""Lists by weighted averages and by clusters, as evaluation makes them."""

from __future__ import annotations

import numpy as np

from tterec.ranking.histories import Met
from tterec.ranking.simple_lists import average_lists, cluster_lists
from tterec.records import Clusters

IDS = np.array([10, 20, 30, 40, 50])
ITEMS = np.array([[1, 0], [0.9, 0.1], [0.1, 0.9], [0, 1], [0, 0.95]], dtype=np.float32)
# One user who liked item 10, and met 40 with a rating of 1; one who met nothing.
MET = Met(np.array([0, 2, 2]), np.array([0, 3]), np.array([9, 1], dtype=np.float32))


def test_what_is_nearest_to_the_average_and_new_comes_first() -> None:
    lists = average_lists(ITEMS, MET, MET, IDS, 4)
    assert lists.tolist() == [[20, 30, 50, -1], [-1, -1, -1, -1]]


def test_only_the_telling_are_averaged_but_all_met_are_left_out() -> None:
    telling = Met(np.array([0, 1, 1]), np.array([3]), np.array([1], dtype=np.float32))
    assert average_lists(ITEMS, telling, MET, IDS, 3)[0].tolist() == [50, 30, 20]


def test_the_nearest_cluster_s_popular_items_come_first() -> None:
    centres = np.array([[0, 1], [1, 0]], dtype=np.float32)
    clusters = Clusters("kmeans", centres, IDS, np.array([1, 1, 0, 0, 0]))
    popular = np.array([9, 1, 5, 9, 5])
    lists = cluster_lists(clusters, ITEMS, popular, (MET, MET), 4)
    assert lists.tolist() == [[20, 30, 50, -1], [-1, -1, -1, -1]]
    assert cluster_lists(clusters, ITEMS, popular, (MET, MET), 2)[0].tolist() == [20, 30]
