"""Items drawn to be a batch's negatives, beside the items that its own interactions are with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tterec.towers.features import Encoded
from tterec.towers.ragged import Index, offsets_of

FEW = 100
"""Tokens of at most this many items tell that items are alike: an author, a rare word; beyond,
a publisher or a language."""


class Negatives:
    """Draws items: uniformly, in proportion to popularity, and alike to the targets.

    Each number is of items drawn for one interaction, and may be a fraction. Beside these, a
    batch's items are negatives for each other.
    """

    def __init__(
        self,
        counts: NDArray[np.integer],
        items: Encoded,
        *,
        uniform: float = 0.0,
        popular: float = 0.0,
        popularity_power: float = 1.0,
        similar: float = 0.0,
    ) -> None:
        """counts: (items,), interactions of each item that are learned from."""
        self._items = len(counts)
        self._uniform, self._popular, self._similar = uniform, popular, similar
        popularity = np.where(counts > 0, counts, 0.0) ** popularity_power * (counts > 0)
        self._popularity = np.cumsum(popularity / popularity.sum())
        self._last = int(np.flatnonzero(popularity)[-1])
        self._alike = Alike(items) if similar else None
        expected = counts / counts.sum() + uniform / self._items
        expected += popular * np.diff(self._popularity, prepend=0.0)
        if self._alike is not None:
            expected += similar * self._alike.chances(counts / counts.sum())
        with np.errstate(divide="ignore"):  # what is never drawn is never asked for
            self.log_q = np.log(expected).astype(np.float32)
        """Log of how often each item is expected for one interaction: float32 (items,)."""

    def draw(self, targets: Index, rng: np.random.Generator) -> Index:
        """Items for a batch of these targets, some of them more than once."""
        uniform, popular, similar = (
            round(number * len(targets)) for number in (self._uniform, self._popular, self._similar)
        )
        drawn = [rng.integers(self._items, size=uniform)]
        if popular:
            places = np.searchsorted(self._popularity, rng.random(popular), side="right")
            drawn.append(places.clip(max=self._last))
        if self._alike is not None:
            drawn.append(self._alike.draw(rng.choice(targets, size=similar), rng))
        return np.concatenate(drawn)


class Alike:
    """Which items share a token (an author, a rare word of the title) with which others."""

    def __init__(self, items: Encoded) -> None:
        tokens = items.tokens
        holders = np.repeat(np.arange(len(items)), np.diff(tokens.offsets))
        counts = np.bincount(tokens.ids)
        kept = (counts[tokens.ids] >= 2) & (counts[tokens.ids] <= FEW)
        ids, holders = tokens.ids[kept], holders[kept]
        self._tokens = ids  # of each item in turn, from _token_starts
        self._token_starts = offsets_of(np.bincount(holders, minlength=len(items)))
        self._holders = holders[np.argsort(ids, kind="stable")]  # of each token in turn
        self._holder_starts = offsets_of(np.bincount(ids, minlength=len(counts)))

    def draw(self, targets: Index, rng: np.random.Generator) -> Index:
        """For each target a random holder of a random one of its tokens; none without tokens."""
        tokens = _one_of_each(self._tokens, self._token_starts, targets, rng)
        return _one_of_each(self._holders, self._holder_starts, tokens, rng)

    def chances(self, shares: NDArray[np.float64]) -> NDArray[np.float64]:
        """How often `draw` draws each item for one target, where targets have these shares."""
        lengths = np.diff(self._token_starts)
        by_token = np.bincount(
            self._tokens,
            weights=np.repeat(shares / np.maximum(lengths, 1), lengths),
            minlength=len(self._holder_starts) - 1,
        )
        held = np.diff(self._holder_starts)
        each = np.repeat(by_token / np.maximum(held, 1), held)
        chances: NDArray[np.float64] = np.zeros(len(shares))
        np.add.at(chances, self._holders, each)
        return chances


def _one_of_each(values: Index, starts: Index, lists: Index, rng: np.random.Generator) -> Index:
    """A random value of each of these lists; none of those that are empty."""
    lengths = starts[lists + 1] - starts[lists]
    lists, lengths = lists[lengths > 0], lengths[lengths > 0]
    return values[starts[lists] + (rng.random(len(lists)) * lengths).astype(np.int64)]
