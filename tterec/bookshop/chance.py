"""Chance that falls the same on every machine."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from random import Random
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Chance:
    """Draws from a seed.

    Everything comes from `Random.random()`, the only sequence that Python promises to keep from
    version to version (NumPy's generators promise none), by sums, products and comparisons,
    which IEEE 754 rounds the same everywhere.
    """

    def __init__(self, seed: int) -> None:
        self.uniform = Random(seed).random

    def happens(self, probability: float) -> bool:
        """True with the given probability."""
        return self.uniform() < probability

    def below(self, n: int) -> int:
        """An integer from 0 to n - 1."""
        return int(self.uniform() * n)

    def between(self, low: int, high: int) -> int:
        """An integer from low to high, both included."""
        return low + self.below(high - low + 1)

    def one_of(self, choices: Sequence[_T]) -> _T:
        """One of the choices, each as likely."""
        return choices[self.below(len(choices))]

    def shuffled(self, items: Iterable[_T]) -> list[_T]:
        """The items in another order."""
        keyed = [(self.uniform(), position, item) for position, item in enumerate(items)]
        return [item for _, _, item in sorted(keyed, key=lambda entry: entry[:2])]

    def bell(self) -> float:
        """A number around 0: a sum of three uniform ones, between -1.5 and 1.5."""
        return self.uniform() + self.uniform() + self.uniform() - 1.5


class Urn(Generic[_T]):
    """Items with weights, to be drawn with replacement."""

    def __init__(self, items: Sequence[_T], weights: Iterable[float]) -> None:
        self._items = items
        self._edges = list(accumulate(weights))

    def draw(self, chance: Chance) -> _T:
        """An item, as likely as its share of the weights."""
        spot = chance.uniform() * self._edges[-1]
        return self._items[min(bisect_right(self._edges, spot), len(self._items) - 1)]
