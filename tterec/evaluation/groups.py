"""Groups of users by how much is known of them, and of items by how popular they are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

USER_GROUPS = ("0", "1-4", "5-19", "20+")
ITEM_CLASSES = ("head", "middle", "tail")
HEAD, MIDDLE = 0.01, 0.2
"""The head is the most popular 1% of the catalogue, the middle what else is in the first 20%."""


def user_groups(interactions: NDArray[np.integer]) -> NDArray[np.int64]:
    """Each user's place in USER_GROUPS, from the number of their interactions, (users,)."""
    places: NDArray[np.int64] = np.digitize(interactions, (1, 5, 20)).astype(np.int64)
    return places


def item_classes(popularity: NDArray[np.integer]) -> NDArray[np.int64]:
    """Each item's place in ITEM_CLASSES, (items,), from the number of its interactions.

    Shares are rounded up, so that the smallest catalogue has a head; ties by row.
    """
    items = len(popularity)
    classes = np.full(items, 2, dtype=np.int64)
    order = np.argsort(-popularity, kind="stable")
    classes[order[: int(np.ceil(items * MIDDLE))]] = 1
    classes[order[: int(np.ceil(items * HEAD))]] = 0
    return classes
