"""Drawn negatives are drawn as often as the correction says."""

import numpy as np
import pytest

from tests.unit.towers.worlds import texts
from tterec.records import Column, FeatureTable
from tterec.towers.features import Features
from tterec.towers.negatives import FEW, Alike, Negatives

COUNTS = np.array([16, 4, 1, 0, 4, 0])
TARGETS = np.repeat(np.arange(6), COUNTS)
# By one author: 0, 1 and 3; by another: 2 and 4; 5 by nobody.
AUTHORS = FeatureTable(
    np.arange(6), (Column("author", "text", texts(["Ann", "Ann", "Bob", "Ann", "Bob", None])),)
)
ITEMS = Features.fit(AUTHORS).encode(AUTHORS)


def draws_of(negatives: Negatives, batches: int = 4000) -> np.ndarray:
    """Mean draws of each item for one interaction."""
    rng = np.random.default_rng(0)
    drawn = [negatives.draw(TARGETS, rng) for _ in range(batches)]
    return np.bincount(np.concatenate(drawn), minlength=6) / (batches * len(TARGETS))


def test_popular_negatives_follow_the_power_of_popularity() -> None:
    draws = draws_of(Negatives(COUNTS, ITEMS, popular=1.0, popularity_power=0.5))
    assert draws == pytest.approx(np.array([4, 2, 1, 0, 2, 0]) / 9, abs=0.01)


def test_a_power_of_zero_draws_all_that_anyone_met_alike() -> None:
    draws = draws_of(Negatives(COUNTS, ITEMS, popular=1.0, popularity_power=0.0))
    assert draws == pytest.approx(np.array([1, 1, 1, 0, 1, 0]) / 4, abs=0.01)


def test_similar_negatives_share_an_author_with_the_target() -> None:
    rng = np.random.default_rng(0)
    alike = Alike(ITEMS)
    assert set(alike.draw(np.full(500, 1), rng)) == {0, 1, 3}
    assert set(alike.draw(np.full(500, 2), rng)) == {2, 4}
    assert len(alike.draw(np.full(500, 5), rng)) == 0, "nothing is like an item without content"


def test_what_many_share_makes_nothing_alike() -> None:
    shelf = ["fiction"] * (FEW + 1) + ["poems"] * FEW
    table = FeatureTable(np.arange(len(shelf)), (Column("shelf", "text", texts([*shelf])),))
    alike = Alike(Features.fit(table).encode(table))
    rng = np.random.default_rng(0)
    assert len(alike.draw(np.zeros(50, dtype=np.int64), rng)) == 0
    assert alike.draw(np.full(50, FEW + 1), rng).min() > FEW


@pytest.mark.parametrize(
    "numbers",
    [
        {"uniform": 2.0},
        {"popular": 1.0, "popularity_power": 0.75},
        {"similar": 2.0},
        {"uniform": 1.0, "popular": 0.6, "popularity_power": 1.0, "similar": 0.4},
    ],
    ids=["uniform", "popular", "similar", "all"],
)
def test_the_correction_is_the_number_of_draws_that_were_made(numbers: dict[str, float]) -> None:
    negatives = Negatives(COUNTS, ITEMS, **numbers)
    expected = COUNTS / COUNTS.sum() + draws_of(negatives)
    assert np.exp(negatives.log_q) == pytest.approx(expected, abs=0.01)


def test_a_batch_alone_expects_its_own_items_only() -> None:
    negatives = Negatives(COUNTS, ITEMS)
    assert len(negatives.draw(TARGETS, np.random.default_rng(0))) == 0
    assert np.exp(negatives.log_q) == pytest.approx(COUNTS / COUNTS.sum())
