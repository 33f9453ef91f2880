"""Protocols of evaluation: which interactions are learned from, and which are judged by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tterec.errors import EvaluationError, InvalidArgument
from tterec.records import Interactions

SPLITS = ("random", "temporal", "leave-one-out", "unseen-users")

Mask = NDArray[np.bool_]
Index = NDArray[np.int64]


@dataclass(frozen=True)
class Holdout:
    """Three disjoint parts of all interactions, bool (interactions,) each.

    training: learned from. shown: not learned from, but known when lists are made (unseen-users
    only). test: judged by.
    """

    training: Mask
    shown: Mask
    test: Mask

    @property
    def known(self) -> Mask:
        """What a user's list may be made from, and leaves out."""
        return self.training | self.shown


def hold_out(split: str, interactions: Interactions, *, share: float, seed: int) -> Holdout:
    """Hold interactions out by one of SPLITS.

    random: `share` of each user's, drawn by lot. temporal: that share again, but each user's
    newest; equally old ones by item id, those of unknown age are never held out. A share that is
    no whole number is rounded by lot (20% of one interaction: one user of five lends theirs, and
    is judged without a history). leave-one-out: one, drawn by lot, of each user with two or more.
    unseen-users: `share` of the users with two or more; half of the interactions of such a user
    is shown, the other half (the smaller) is judged by.

    Deterministic by seed; the order of the interactions does not matter. Raises EvaluationError
    where nothing is held out or nothing is left, or no interaction has a date to split by.
    """
    if split not in SPLITS:
        raise InvalidArgument(f"split {split!r} is unknown; choose {', '.join(SPLITS)}")
    if not 0 < share < 1:
        raise InvalidArgument(f"share = {share:g} is out of range; choose one between 0 and 1")
    rng = np.random.default_rng(seed)
    _, user, counts = np.unique(interactions.user_ids, return_inverse=True, return_counts=True)
    lot = _lots(interactions, user, rng)
    shown = np.zeros(len(interactions), dtype=bool)
    if split == "random":
        test = _last(user, lot, _rounded_by_lot(counts * share, rng))
    elif split == "leave-one-out":
        test = _last(user, lot, np.where(counts >= 2, 1, 0))
    elif split == "temporal":
        dated = ~np.isnan(interactions.rated_at)
        if not dated.any():
            raise EvaluationError(
                "a temporal split needs dates, and no interaction has one: let the interactions "
                "query return rated_at, or run: tterec evaluate --split random"
            )
        lent = np.bincount(user[dated], minlength=len(counts)) * share
        times = np.where(dated, interactions.rated_at, 0.0)
        age_order = np.lexsort((interactions.item_ids, times, dated))
        place = np.empty(len(interactions))
        place[age_order] = np.arange(len(interactions))
        test = _last(user, place, _rounded_by_lot(lent, rng))
    else:
        unseen = np.zeros(len(counts), dtype=bool)
        candidates = np.flatnonzero(counts >= 2)
        drawn = int(_rounded_by_lot(np.array([len(candidates) * share]), rng)[0])
        unseen[rng.permutation(candidates)[:drawn]] = True
        test = _last(user, lot, np.where(unseen, counts // 2, 0))
        shown = unseen[user] & ~test
    found = Holdout(~test & ~shown, shown, test)
    _check(split, found)
    return found


def refuse_leak(training: Interactions, test: Interactions) -> None:
    """Raise EvaluationError if a pair of user and item of `test` is also in `training`."""
    users = np.concatenate([training.user_ids, test.user_ids])
    items = np.concatenate([training.item_ids, test.item_ids])
    is_test = np.arange(len(users)) >= len(training)
    order = np.lexsort((is_test, items, users))
    again = (np.diff(users[order]) == 0) & (np.diff(items[order]) == 0) & np.diff(is_test[order])
    if again.any():
        first = order[np.flatnonzero(again)[0]]
        raise EvaluationError(
            f"{int(again.sum()):,} held-out interactions are among those to learn from, such as "
            f"user {users[first]} with item {items[first]}; no figure would mean anything"
        )


def _lots(interactions: Interactions, user: Index, rng: np.random.Generator) -> NDArray[np.float64]:
    """A random number each, which does not depend on the order of the interactions."""
    lots = np.empty(len(interactions))
    lots[np.lexsort((interactions.item_ids, user))] = rng.random(len(interactions))
    return lots


def _rounded_by_lot(numbers: NDArray[np.floating], rng: np.random.Generator) -> Index:
    """Whole numbers whose expectation is that of `numbers`."""
    # A share of .2 of 35 is 7.000000000000001 in floating point.
    exact = numbers.round(9)
    return np.floor(exact + rng.random(len(numbers))).astype(np.int64)


def _last(user: Index, keys: NDArray[np.float64], lent: Index) -> Mask:
    """The `lent[u]` interactions of each user u with the greatest keys."""
    order = np.lexsort((keys, user))
    counts = np.bincount(user, minlength=len(lent))
    from_the_end = np.repeat(np.cumsum(counts), counts) - np.arange(len(user))
    chosen = np.zeros(len(user), dtype=bool)
    chosen[order] = from_the_end <= lent[user[order]]
    return chosen


def _check(split: str, found: Holdout) -> None:
    if not found.test.any():
        raise EvaluationError(
            f"the split {split} holds out none of the {len(found.test):,} interactions; "
            "choose a larger --share or another --split"
        )
    if not found.training.any():
        raise EvaluationError(
            f"the split {split} leaves none of the {len(found.test):,} interactions to learn "
            "from; choose a smaller --share or another --split"
        )
