"""Which interactions are held out, and that none of them is learned from."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tterec.errors import EvaluationError, InvalidArgument
from tterec.evaluation.holdouts import SPLITS, hold_out, refuse_leak
from tterec.records import Interactions


def interactions(
    users: list[int] | np.ndarray,
    items: list[int] | np.ndarray | None = None,
    rated_at: list[float] | None = None,
) -> Interactions:
    """Unrated ones; by default of items 0, 1, 2, ... and without dates."""
    n = len(users)
    return Interactions(
        np.array(users, dtype=np.int64),
        np.arange(n) if items is None else np.array(items, dtype=np.int64),
        np.full(n, np.nan, dtype=np.float32),
        np.full(n, np.nan) if rated_at is None else np.array(rated_at, dtype=float),
    )


def each(users: int, of_each: int) -> Interactions:
    return interactions(np.repeat(np.arange(users), of_each), np.tile(np.arange(of_each), users))


pairs = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 30)), unique=True, max_size=80)


@given(
    pairs=pairs,
    split=st.sampled_from(SPLITS),
    share=st.sampled_from([0.1, 0.2, 0.5, 0.9]),
    seed=st.integers(0, 9),
)
def test_the_parts_are_disjoint_and_no_pair_of_the_test_is_learned_from(
    pairs: list[tuple[int, int]], split: str, share: float, seed: int
) -> None:
    users, items = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    dates = [float(item % 4) if item % 5 else np.nan for item in items]
    given = interactions(users, items, dates)
    try:
        found = hold_out(split, given, share=share, seed=seed)
    except EvaluationError:
        return
    assert np.all(found.training.astype(int) + found.shown + found.test == 1)
    refuse_leak(given.select(found.training), given.select(found.test))
    learned = set(users[found.training])
    if split == "unseen-users":
        assert not learned & set(users[found.test])
        assert set(users[found.shown]) == set(users[found.test])
    else:
        assert not found.shown.any()
    if split == "leave-one-out":
        assert set(users[found.test]) <= learned
        assert len(set(users[found.test])) == found.test.sum()
    if split == "temporal":
        assert not np.isnan(given.rated_at[found.test]).any()


@given(pairs=pairs, split=st.sampled_from(SPLITS), seed=st.integers(0, 9))
def test_the_order_of_the_interactions_does_not_matter(
    pairs: list[tuple[int, int]], split: str, seed: int
) -> None:
    users, items = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    given = interactions(users, items, [float(item % 4) for item in items])
    shuffled = np.random.default_rng(seed).permutation(len(users))
    try:
        first = hold_out(split, given, share=0.3, seed=seed)
    except EvaluationError:
        return
    again = hold_out(split, given.select(shuffled), share=0.3, seed=seed)
    for part in ("training", "shown", "test"):
        assert np.array_equal(getattr(first, part)[shuffled], getattr(again, part))


def test_random_takes_the_share_of_every_user_and_every_interaction_has_the_same_chance() -> None:
    found = hold_out("random", each(1000, 10), share=0.2, seed=0).test.reshape(1000, 10)
    assert np.all(found.sum(axis=1) == 2)
    assert found.sum(axis=0).min() > 150  # 200 expected, standard deviation 13


def test_a_share_of_less_than_one_interaction_is_drawn_by_lot() -> None:
    """So that there are users of whom nothing is known: one in five of those with one."""
    found = hold_out("random", interactions(np.arange(2000)), share=0.2, seed=0)
    assert found.test.sum() == pytest.approx(400, abs=60)


def test_temporal_takes_each_users_newest_and_equally_old_ones_by_id() -> None:
    given = interactions(
        users=[1, 1, 1, 1, 1, 2, 2, 2, 2, 2],
        items=[9, 3, 7, 5, 1, 9, 3, 7, 5, 1],
        rated_at=[10, 50, 40, 20, 30, 6, 6, 1, 6, np.nan],
    )
    found = hold_out("temporal", given, share=0.4, seed=0)
    newest = list(zip(given.user_ids[found.test], given.item_ids[found.test], strict=True))
    # Of user 2 four have dates: 1.6 are lent, one or two, and of those of second 6 the last ids.
    assert newest[:2] == [(1, 3), (1, 7)]
    assert newest[2:] in ([(2, 9)], [(2, 9), (2, 5)])


def test_temporal_holds_out_what_is_older_than_all_times_but_nothing_undated() -> None:
    """Postgres has the time -infinity."""
    given = each(1, 4)
    given.rated_at[:] = [np.nan, -np.inf, np.nan, -np.inf]
    found = hold_out("temporal", given, share=0.99, seed=0)
    assert not found.test[[0, 2]].any()
    assert found.test[[1, 3]].any()


def test_temporal_needs_dates() -> None:
    with pytest.raises(EvaluationError, match=r"return rated_at, or run: .*--split random"):
        hold_out("temporal", each(10, 10), share=0.2, seed=0)


def test_leave_one_out_takes_one_of_everyone_who_keeps_one() -> None:
    given = interactions([1, 1, 1, 2, 3, 3])
    found = hold_out("leave-one-out", given, share=0.2, seed=0)
    assert sorted(given.user_ids[found.test]) == [1, 3]


def test_unseen_users_show_the_larger_half() -> None:
    given = interactions(np.repeat(np.arange(100), 5))
    found = hold_out("unseen-users", given, share=0.2, seed=0)
    assert (found.training.sum(), found.shown.sum(), found.test.sum()) == (400, 60, 40)
    assert np.array_equal(found.known, found.training | found.shown)


def test_another_seed_holds_others_out() -> None:
    first, other = (hold_out("random", each(50, 10), share=0.2, seed=s).test for s in (1, 2))
    assert not np.array_equal(first, other)


@pytest.mark.parametrize(
    ("split", "share", "users", "complaint"),
    [
        ("leave-one-out", 0.2, [1, 2, 3], "holds out none of the 3 interactions"),
        ("unseen-users", 0.99, [1, 1], "leaves none of the 2 interactions"),
        ("random", 0.2, [], "holds out none of the 0"),
    ],
)
def test_a_split_without_a_part_is_refused(
    split: str, share: float, users: list[int], complaint: str
) -> None:
    with pytest.raises(EvaluationError, match=complaint):
        hold_out(split, interactions(users), share=share, seed=0)


@pytest.mark.parametrize(
    ("split", "share", "complaint"),
    [("weekly", 0.2, "split 'weekly' is unknown"), ("random", 1.0, "share = 1 is out of range")],
)
def test_bad_arguments_are_named(split: str, share: float, complaint: str) -> None:
    with pytest.raises(InvalidArgument, match=complaint):
        hold_out(split, each(3, 3), share=share, seed=0)


def test_a_planted_leak_is_caught() -> None:
    given = each(20, 10)
    found = hold_out("random", given, share=0.2, seed=0)
    leaking = found.training.copy()
    leaking[np.flatnonzero(found.test)[:3]] = True
    with pytest.raises(EvaluationError, match=r"3 held-out interactions .* such as user 0 with"):
        refuse_leak(given.select(leaking), given.select(found.test))


def test_the_same_item_of_another_user_is_no_leak() -> None:
    refuse_leak(interactions([1, 2], [7, 8]), interactions([1, 2], [8, 7]))
