"""Lists of different lengths in flat arrays: `offsets` (n + 1) say where each list starts."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

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


class Holders(NamedTuple):
    """Which lists hold each value, all int32. lists: (n,), those that hold value v from starts[v]
    on, ascending; places: (n,), where in the flat lists that is."""

    lists: NDArray[np.int32]
    starts: NDArray[np.int32]
    places: NDArray[np.int32]


def holders(values: Index, starts: Index, distinct: int) -> Holders:
    """Those of flat lists of values below `distinct`; list i begins at starts[i]."""
    places = np.arange(len(values), dtype=np.int32)
    offsets = np.append(starts, len(values))
    table = sparse.csr_array((places, values, offsets), shape=(len(starts), distinct))
    by_value = table.tocsc()  # counts, where NumPy and torch would sort: nine times as fast
    return Holders(by_value.indices, by_value.indptr[:-1], by_value.data)


class Renumbering:
    """Dense numbers for the few of `size` ids that a batch meets.

    Keeps a table of `size` numbers between calls, so that a batch costs no sorting.
    """

    def __init__(self, size: int) -> None:
        self._seen = np.zeros(size, dtype=bool)
        self._number = np.full(size, -1, dtype=np.int64)
        self._distinct = np.zeros(0, dtype=np.int64)

    def unique(self, *ids: Index) -> Index:
        """The distinct ids, ascending; numbers_of() then numbers them 0, 1, …"""
        for some in ids:
            self._seen[some] = True
        distinct = np.flatnonzero(self._seen)
        self._seen[distinct] = False
        self._number[self._distinct] = -1
        self._number[distinct] = np.arange(len(distinct))
        self._distinct = distinct
        return distinct

    def numbers_of(self, ids: Index) -> Index:
        """Positions of ids in the last unique(); -1 of those that were not in it."""
        numbers: Index = self._number[ids]
        return numbers
