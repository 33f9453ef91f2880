"""Lists of different lengths in flat arrays: `offsets` (n + 1) say where each list starts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Index = NDArray[np.int64]


def offsets_of(lengths: NDArray[np.integer]) -> Index:
    """Where lists of these lengths start and the last one ends: int64 (n + 1,)."""
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def spans(starts: Index, lengths: Index) -> Index:
    """The flat positions starts[i], starts[i] + 1, … of all lists in turn: int64 (Σ lengths,)."""
    before = np.cumsum(lengths) - lengths
    total = int(lengths.sum())
    return np.repeat(starts - before, lengths) + np.arange(total, dtype=np.int64)


class Renumbering:
    """Dense numbers for the few of `size` ids that a batch meets.

    Keeps a table of `size` numbers between calls, so that a batch costs no sorting.
    """

    def __init__(self, size: int) -> None:
        self._seen = np.zeros(size, dtype=bool)
        self._number = np.zeros(size, dtype=np.int64)

    def unique(self, *ids: Index) -> Index:
        """The distinct ids, ascending; numbers_of() then numbers them 0, 1, …"""
        for some in ids:
            self._seen[some] = True
        distinct = np.flatnonzero(self._seen)
        self._seen[distinct] = False
        self._number[distinct] = np.arange(len(distinct))
        return distinct

    def numbers_of(self, ids: Index) -> Index:
        """Positions of ids in the last unique(); they must all have been in it."""
        numbers: Index = self._number[ids]
        return numbers
