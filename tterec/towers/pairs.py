"""Pairs of user and item as digests, by which one array's are found in another."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tterec.towers.ragged import Index


def pair_digests(user_ids: Index, item_ids: Index) -> Index:
    """A number for each pair, int64 (n,): two of a million pairs share one by a chance of 3e-8."""
    mixed = _mix(_mix(user_ids.astype(np.uint64)) + item_ids.astype(np.uint64))
    return mixed.view(np.int64)


def _mix(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, 2014): a bijection that scatters."""
    values = values + np.uint64(0x9E3779B97F4A7C15)
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
