"""Grouping interactions by user, in the order in which histories count them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tterec.errors import TrainingError
from tterec.records import FeatureTable, Interactions
from tterec.towers.histories import Histories, gather_histories, rating_buckets, rows_of

NAN = np.nan


def interactions(*rows: tuple[int, int, float, float]) -> Interactions:
    """(user, item, rating, rated_at) each."""
    users, items, ratings, times = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Interactions(
        np.array(users, dtype=np.int64),
        np.array(items, dtype=np.int64),
        np.array(ratings, dtype=np.float32),
        np.array(times, dtype=np.float64),
    )


def gather(*rows: tuple[int, int, float, float], max_history: int = 200) -> Histories:
    users = FeatureTable(np.array([1, 2, 3]))
    items = FeatureTable(np.array([10, 20, 30, 40, 50]))
    return gather_histories(interactions(*rows), users, items, max_history)


def test_newest_first_then_highest_rated_then_by_item() -> None:
    histories = gather(
        (1, 10, 9, NAN), (1, 20, NAN, 5.0), (1, 30, 3, 5.0), (1, 50, 8, 7.0), (1, 40, 9, NAN)
    )
    assert histories.items.tolist() == [4, 2, 1, 0, 3]


def test_ids_that_float64_cannot_tell_apart_keep_their_order() -> None:
    items = FeatureTable(np.array([2**60, 2**60 + 1]))
    rows = interactions((1, 2**60 + 1, 5, NAN), (1, 2**60, 5, NAN))
    assert gather_histories(rows, FeatureTable(np.array([1])), items, 9).items.tolist() == [0, 1]


def test_interactions_with_unknown_items_are_left_out_and_unknown_users_kept() -> None:
    histories = gather((1, 10, 5, NAN), (1, 99, 5, NAN), (7, 20, 5, NAN))
    assert histories.user_ids.tolist() == [1, 7]
    assert histories.user_rows.tolist() == [0, -1]
    assert histories.items.tolist() == [0, 1]


def test_of_an_interaction_given_twice_the_newest_counts() -> None:
    histories = gather((1, 10, 5, 1.0), (1, 20, 4, 2.0), (1, 10, 7, 3.0))
    assert histories.items.tolist() == [0, 1]
    assert histories.ratings.tolist() == [7.0, 4.0]


def test_only_the_first_of_a_long_history_are_in_it() -> None:
    histories = gather(*[(1, item, item / 10, NAN) for item in (10, 20, 30, 40)], max_history=2)
    assert histories.items.tolist() == [3, 2, 1, 0]
    assert histories.in_history(np.arange(4), np.zeros(4, dtype=int)).tolist() == [
        True,
        True,
        False,
        False,
    ]
    positions, lengths = histories.history_spans(np.array([0]))
    assert positions.tolist() == [0, 1]
    assert lengths.tolist() == [2]
    assert histories.known_spans(np.array([0]))[0].tolist() == [0, 1, 2, 3]


def test_selecting_keeps_users_that_have_nothing_left() -> None:
    histories = gather((1, 10, 5, NAN), (2, 20, 4, NAN), (2, 30, 3, NAN))
    left = histories.select(np.array([False, True, True]))
    assert left.offsets.tolist() == [0, 0, 2]
    assert left.items.tolist() == [1, 2]


def test_nothing_to_learn_from_is_an_error_that_says_so() -> None:
    with pytest.raises(TrainingError, match="no interactions to learn from"):
        gather()
    with pytest.raises(TrainingError, match="none of the 1 interactions"):
        gather((1, 99, 5, NAN))


def test_ratings_have_buckets() -> None:
    ratings = np.array([0, 0.49, 0.5, 1.5, 9.5, 10, NAN], dtype=np.float32)
    assert rating_buckets(ratings).tolist() == [0, 0, 1, 2, 10, 10, 11]


@pytest.mark.parametrize("rating", [-1.0, 10.6, 100.0, np.inf])
def test_ratings_outside_the_scale_are_refused(rating: float) -> None:
    with pytest.raises(TrainingError, match="outside 0 to 10"):
        rating_buckets(np.array([5.0, rating], dtype=np.float32))


def test_rows_of_ids() -> None:
    assert rows_of(np.array([2, 5, 9]), np.array([9, 1, 5, 10, 2])).tolist() == [2, -1, 1, -1, 0]
    assert rows_of(np.array([], dtype=np.int64), np.array([1])).tolist() == [-1]


row = st.tuples(
    st.integers(1, 4),
    st.sampled_from([10, 20, 30, 40, 50, 60]),
    st.sampled_from([NAN, 0.0, 5.0, 10.0]),
    st.sampled_from([NAN, 1.0, 2.0]),
)


@given(rows=st.lists(row, max_size=40, unique_by=lambda r: r[:2]), max_history=st.integers(1, 4))
def test_the_order_is_the_rules_order(
    rows: list[tuple[int, int, float, float]], max_history: int
) -> None:
    known = [r for r in rows if r[1] != 60]
    if not known:
        return
    histories = gather(*rows, max_history=max_history)

    def key(r: tuple[int, int, float, float]) -> tuple[float, ...]:
        def last(value: float) -> float:
            return np.inf if np.isnan(value) else -value

        return (r[0], last(r[3]), last(r[2]), r[1])

    expected = sorted(known, key=key)
    owners = histories.user_ids[histories.owners]
    found = list(zip(owners.tolist(), (10 * (histories.items + 1)).tolist(), strict=True))
    assert found == [r[:2] for r in expected]
