"""The validation split: who lends what."""

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tterec.evaluation import validation_split as split_of_groups

NAN = np.nan


def validation_split(user_ids: np.ndarray, ratings: np.ndarray, **named: Any) -> np.ndarray:
    """Of interactions of which each user's stand together."""
    counts = np.unique(user_ids, return_counts=True)[1]
    return split_of_groups(np.append(0, np.cumsum(counts)), ratings, **named)


def many(users: int, each: int) -> tuple[np.ndarray, np.ndarray]:
    ids = np.repeat(np.arange(users), each)
    return ids, np.full(len(ids), NAN, dtype=np.float32)


@given(
    ids=st.lists(st.integers(0, 12), max_size=200),
    users=st.integers(0, 20),
    seed=st.integers(0, 5),
    rated_only=st.booleans(),
)
def test_a_user_lends_at_most_one_and_keeps_at_least_one(
    ids: list[int], users: int, seed: int, rated_only: bool
) -> None:
    user_ids = np.sort(np.array(ids, dtype=np.int64))
    ratings = np.where(user_ids % 3 == 0, NAN, user_ids % 11).astype(np.float32)
    held_out = validation_split(user_ids, ratings, users=users, seed=seed, rated_only=rated_only)
    lenders, lent = np.unique(user_ids[held_out], return_counts=True)
    assert len(lenders) <= min(users, len(ids) // 10)
    assert np.all(lent == 1)
    assert set(lenders) <= set(user_ids[~held_out])
    if rated_only:
        assert not np.isnan(ratings[held_out]).any()


def test_the_same_seed_draws_the_same_and_another_draws_others() -> None:
    ids, ratings = many(500, 20)
    first, again, other = (validation_split(ids, ratings, users=300, seed=s) for s in (1, 1, 2))
    assert np.array_equal(first, again)
    assert first.sum() == other.sum() == 300
    assert not np.array_equal(first, other)


def test_every_interaction_of_a_user_has_the_same_chance() -> None:
    ids, ratings = many(2000, 10)
    held_out = validation_split(ids, ratings, users=2000, seed=0).reshape(2000, 10)
    assert held_out.sum(axis=0).min() > 140  # 200 expected, standard deviation 13


def test_liked_interactions_are_lent() -> None:
    ids, _ = many(100, 12)
    ratings = np.tile(np.array([1, 2, 9] * 4, dtype=np.float32), 100)
    held_out = validation_split(ids, ratings, users=100, seed=0)
    assert set(ratings[held_out]) == {9.0}


def test_only_what_is_offered_is_lent_and_at_most_a_tenth_of_it() -> None:
    ids, ratings = many(100, 10)
    among = np.arange(1000) % 10 == 3
    held_out = validation_split(ids, ratings, users=100, seed=0, among=among)
    assert held_out.sum() == 10
    assert not np.any(held_out & ~among)


def test_a_user_who_rates_everything_the_same_likes_it() -> None:
    ids, _ = many(30, 10)
    assert validation_split(ids, np.full(300, 0.1, np.float32), users=30, seed=0).sum() == 30


def test_for_predicted_ratings_any_rated_interaction_is_lent() -> None:
    ids, _ = many(200, 12)
    ratings = np.tile(np.array([1, NAN, 9] * 4, dtype=np.float32), 200)
    held_out = validation_split(ids, ratings, users=200, seed=0, rated_only=True)
    assert set(ratings[held_out]) == {1.0, 9.0}


def test_users_with_two_lend_only_where_nobody_has_three() -> None:
    pairs = np.repeat(np.arange(50), 2)
    unrated = np.full(100, NAN, dtype=np.float32)
    assert validation_split(pairs, unrated, users=50, seed=0).sum() == 10
    with_three = np.concatenate([pairs, [99, 99, 99]])
    held_out = validation_split(with_three, np.full(103, NAN, np.float32), users=50, seed=0)
    assert with_three[held_out].tolist() == [99]


def test_users_with_one_interaction_lend_nothing() -> None:
    assert not validation_split(
        np.arange(100), np.full(100, NAN, np.float32), users=9, seed=0
    ).any()
