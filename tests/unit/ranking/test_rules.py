"""The rules of a shop, each by hand-computed lists, and what holds for any of them together."""

from __future__ import annotations

from datetime import date
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tterec.errors import InvalidArgument
from tterec.ranking import rules
from tterec.ranking.rules import NO_AUTHOR, Pool, Rules, apply

NAN = float("nan")


def pool(scores: list[float], **columns: Any) -> Pool:
    """Candidates with ids 1 to n."""
    return Pool(
        np.arange(1, len(scores) + 1),
        np.array(scores),
        **{name: np.array(values) for name, values in columns.items()},
    )


def listed(given_rules: Rules, candidates: Pool, k: int = 10, user: int = 0) -> list[int]:
    """The item ids of the list under the rules."""
    rows, _ = apply(given_rules, candidates, k, user)
    return candidates.item_ids[rows].tolist()


def test_without_rules_the_best_come_first_and_equal_ones_by_id() -> None:
    rows, scores = apply(Rules(), pool([1.0, 3.0, 2.0, 3.0]), 3)
    assert rows.tolist() == [1, 3, 2]
    assert scores.tolist() == [3.0, 3.0, 2.0]
    assert not Rules(half_life=2.0, seed=7, author_column="director", as_of=date(2020, 1, 1)).on


@pytest.mark.parametrize(
    "on",
    [
        {"diversity": 0.1},
        {"max_per_author": 3},
        {"freshness": 0.1},
        {"dither": 0.1},
        {"available": []},
        {"unavailable": ["x"]},
        {"available_column": "in_stock"},
    ],
    ids=str,
)
def test_each_rule_alone_is_on(on: dict[str, Any]) -> None:
    assert Rules(**on).on


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"diversity": -0.1}, "diversity = -0.1 is out of range; choose 0 to 1"),
        ({"diversity": NAN}, "diversity = nan"),
        ({"max_per_author": 0}, "max_per_author = 0 is out of range; choose 1 to"),
        ({"freshness": 11}, "freshness = 11"),
        ({"half_life": 0}, "half_life = 0 is out of range; choose 0.01 to 10000"),
        ({"dither": -1}, "dither = -1"),
        ({"seed": -1}, "seed = -1"),
        ({"available": "0439064864"}, "available is one text"),
        ({"unavailable": "0439064864"}, "unavailable is one text"),
    ],
    ids=str,
)
def test_a_value_out_of_range_is_one_line(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidArgument, match=said) as raised:
        Rules(**wrong)
    assert len(str(raised.value).splitlines()) == 1


def test_only_available_books_are_listed_with_the_scores_they_had() -> None:
    candidates = pool([4.0, 3.0, 2.0, 1.0], available=[False, True, False, True])
    rows, scores = apply(Rules(available_column="in_stock"), candidates, 10)
    assert rows.tolist() == [1, 3]
    assert scores.tolist() == [3.0, 1.0]


def test_at_most_n_by_one_author_and_unknown_authors_are_free() -> None:
    authors = [7, 7, NO_AUTHOR, 7, 8, NO_AUTHOR, NO_AUTHOR]
    candidates = pool([7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0], authors=authors)
    assert listed(Rules(max_per_author=1), candidates) == [1, 3, 5, 6, 7]
    assert listed(Rules(max_per_author=2), candidates) == [1, 2, 3, 5, 6, 7]
    assert apply(Rules(max_per_author=2), candidates, 10)[1].tolist() == [7, 6, 5, 3, 2, 1]
    assert listed(Rules(max_per_author=3), candidates) == [1, 2, 3, 4, 5, 6, 7]


def test_spellings_of_an_author_are_one_author() -> None:
    names = ["J. K. Rowling", "J.K. ROWLING", "Émile Zola", None, "émile zola", "", "?", "Zola"]
    groups = rules.author_groups(names)
    assert groups[0] == groups[1]
    assert groups[2] == groups[4]
    assert len({groups[0], groups[2], groups[7]}) == 3
    assert (groups[[3, 5, 6]] == NO_AUTHOR).all()
    assert (groups[[0, 2, 7]] >= 0).all()


def test_freshness_halves_with_the_half_life_and_an_unknown_age_is_neutral() -> None:
    # Scaled scores 1, .5, 0, .25; freshness 1/4, 1 and 1/2 of the known, their mean 7/12.
    candidates = pool([9.0, 7.0, 5.0, 6.0], ages=[10.0, 0.0, 5.0, NAN])
    rows, scores = apply(Rules(freshness=2.0, half_life=5.0), candidates, 10)
    wanted = {
        1: 1.0 + 2 * (0.25 - 7 / 12),
        2: 0.5 + 2 * (1.0 - 7 / 12),
        3: 0.0 + 2 * (0.5 - 7 / 12),
        4: 0.25,
    }
    assert candidates.item_ids[rows].tolist() == [2, 1, 4, 3]
    assert scores.tolist() == [round(wanted[i], 6) for i in (2, 1, 4, 3)]


def test_books_of_unknown_ages_alone_keep_their_order() -> None:
    candidates = pool([1.0, 3.0, 2.0], ages=[NAN, NAN, NAN])
    assert listed(Rules(freshness=5.0), candidates) == [2, 3, 1]


def test_a_book_of_the_future_is_as_new_as_todays() -> None:
    candidates = pool([2.0, 2.0, 1.0], ages=[0.0, -30.0, 90.0])
    _, scores = apply(Rules(freshness=1.0), candidates, 2)
    assert scores[0] == scores[1]


def test_ages_are_counted_from_years_and_from_dates() -> None:
    as_of = date(2005, 1, 1)
    from_years = rules.ages_of_years(np.array([2000.0, NAN, 2010.0]), as_of)
    assert from_years[[0, 2]] == pytest.approx([5.0, -5.0], abs=0.01)
    assert np.isnan(from_years[1])
    days = (date(2003, 7, 2) - date(1970, 1, 1)).days
    assert rules.ages_of_days(np.array([float(days)]), as_of) == pytest.approx([1.5], abs=0.01)
    today = rules.ages_of_days(np.array([(date.today() - date(1970, 1, 1)).days + 0.0]), None)
    assert today == pytest.approx([0.0], abs=0.01)


def test_dithering_orders_by_the_logarithm_of_the_rank_and_noise() -> None:
    scores = np.linspace(5, 1, 40)
    noise = np.random.default_rng([3, 12]).standard_normal(40)
    noisy = np.log(np.arange(1, 41)) + 0.7 * noise
    candidates = pool(scores.tolist())
    rows, keys = apply(Rules(dither=0.7, seed=3), candidates, 40, user=12)
    assert rows.tolist() == np.argsort(noisy).tolist()
    assert keys == pytest.approx(-np.sort(noisy), abs=1e-6)


def test_dithering_is_by_seed_and_user_and_moves_the_first_ranks_least() -> None:
    candidates = pool(np.linspace(5, 1, 100).tolist())
    once = listed(Rules(dither=0.5, seed=1), candidates, user=5)
    assert once == listed(Rules(dither=0.5, seed=1), candidates, user=5)
    assert once != listed(Rules(dither=0.5, seed=2), candidates, user=5)
    assert once != listed(Rules(dither=0.5, seed=1), candidates, user=6)
    assert len(listed(Rules(dither=0.5), candidates, user=-(2**63))) == 10
    places = np.array(
        [listed(Rules(dither=0.5, seed=seed), candidates, 100) for seed in range(200)]
    ).argsort(axis=1)  # of items 1 to 100
    moved = np.abs(places - np.arange(100)).mean(axis=0)
    assert moved[0] < moved[4] < moved[20] < moved[60]


def test_the_noise_of_a_rank_does_not_depend_on_how_many_there_are() -> None:
    assert (rules.dithered(50, 0.5, (4, 2))[:20] == rules.dithered(20, 0.5, (4, 2))).all()


def test_diversity_chooses_by_maximal_marginal_relevance() -> None:
    # Relevance 1, .9, .8, 0. Items 1 and 2 point the same way, 3 is at right angles to them and
    # at 45 degrees to 4. With weight .3 the keys are .7 (item 1); then .63 - .3, .56 and 0 less
    # .3 / √2: item 3; then .33 and -.212132: item 2, then 4.
    vectors = [[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [3.0, 3.0]]
    candidates = pool([10.0, 9.0, 8.0, 0.0], vectors=vectors)
    rows, keys = apply(Rules(diversity=0.3), candidates, 4)
    assert rows.tolist() == [0, 2, 1, 3]
    assert keys.tolist() == [0.7, 0.56, 0.33, -0.212132]
    assert listed(Rules(diversity=0.05), candidates) == [1, 2, 3, 4]


def test_opposite_books_are_different_and_no_more() -> None:
    candidates = pool([2.0, 1.0, 1.5], vectors=[[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    assert listed(Rules(diversity=0.5), candidates) == [1, 3, 2]


def test_a_book_without_vector_is_like_no_other() -> None:
    candidates = pool([3.0, 2.0, 1.0], vectors=[[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    assert listed(Rules(diversity=0.6), candidates) == [1, 3, 2]


def test_twins_rank_by_id_under_diversity() -> None:
    candidates = Pool(np.array([9, 4, 6]), np.ones(3), np.ones((3, 2), np.float32))
    rows, keys = apply(Rules(diversity=0.5), candidates, 3)
    assert candidates.item_ids[rows].tolist() == [4, 6, 9]
    assert keys.tolist() == [0.0, -0.5, -0.5]


def test_what_is_not_chosen_one_by_one_follows_by_its_key(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    candidates = pool(random.random(60).tolist(), vectors=random.normal(size=(60, 4)))
    whole, _ = apply(Rules(diversity=0.4), candidates, 60)
    monkeypatch.setattr(rules, "_CHOSEN_ONE_BY_ONE", 10)
    rows, keys = apply(Rules(diversity=0.4), candidates, 60)
    assert rows[:10].tolist() == whole[:10].tolist()
    assert sorted(rows.tolist()) == list(range(60))
    assert (np.diff(keys) <= 0).all()


def test_a_rule_without_its_data_changes_nothing() -> None:
    wanted = Rules(diversity=0.5, freshness=1.0, max_per_author=1)
    assert listed(wanted, pool([1.0, 3.0, 2.0])) == [2, 3, 1]


def test_there_may_be_no_candidates() -> None:
    everything = Rules(
        diversity=0.5, freshness=1.0, max_per_author=1, dither=0.5, available_column="x"
    )
    candidates = pool(
        [1.0, 2.0],
        vectors=[[1.0], [2.0]],
        authors=[0, 0],
        ages=[1.0, 2.0],
        available=[False, False],
    )
    assert listed(everything, candidates) == []
    assert listed(everything, pool([])) == []
    assert listed(Rules(diversity=0.5), pool([1.0], vectors=[[1.0]]), k=0) == []


def test_the_order_of_the_rules() -> None:
    # What is unavailable counts neither for an author nor for likeness; what an author has too
    # much of does not count for likeness; freshness decides which of an author's books stay.
    candidates = pool(
        [9.0, 8.0, 7.0, 6.0],
        available=[False, True, True, True],
        authors=[1, 1, 1, 2],
        ages=[0.0, 90.0, 0.0, 90.0],
        vectors=[[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]],
    )
    both = Rules(available_column="x", max_per_author=1, diversity=0.9)
    assert listed(both, candidates) == [2, 4]
    assert listed(Rules(available_column="x", max_per_author=1), candidates) == [2, 4]
    fresh = Rules(available_column="x", max_per_author=1, freshness=3.0)
    assert listed(fresh, candidates) == [3, 4]


@st.composite
def pools(draw: st.DrawFn) -> Pool:
    """Candidates with few distinct scores, authors, ages and vectors, so that all kinds tie."""
    n = draw(st.integers(0, 30))
    seed = draw(st.integers(0, 2**32 - 1))
    random = np.random.default_rng(seed)
    return Pool(
        random.permutation(100)[:n],
        random.integers(-3, 4, n) / 4,
        random.integers(-1, 2, (n, 2)).astype(np.float32),
        random.integers(-1, 4, n),
        np.where(random.random(n) < 0.2, np.nan, random.integers(0, 4, n) * 2.5),
        random.random(n) < 0.8,
    )


any_rules = st.builds(
    Rules,
    diversity=st.sampled_from([0.0, 0.2, 0.5, 1.0]),
    max_per_author=st.sampled_from([None, 1, 2]),
    freshness=st.sampled_from([0.0, 0.3, 2.0]),
    dither=st.sampled_from([0.0, 0.5]),
    seed=st.integers(0, 3),
    available_column=st.just("in_stock"),
)


@given(any_rules, pools(), st.integers(0, 35))
def test_any_rules_make_a_list_that_keeps_its_promises(wanted: Rules, all_: Pool, k: int) -> None:
    rows, scores = apply(wanted, all_, k)
    items = all_.item_ids[rows]
    assert len(set(items.tolist())) == len(items) <= k
    assert all_.available is not None
    assert all_.authors is not None
    assert all_.available[rows].all()
    authors = all_.authors[rows]
    if wanted.max_per_author is not None:
        _, counts = np.unique(authors[authors >= 0], return_counts=True)
        assert counts.max(initial=0) <= wanted.max_per_author
    else:
        assert len(items) == min(k, all_.available.sum())
    # The score is what the list is ordered by, and equal ones go by id.
    assert np.lexsort((items, -scores)).tolist() == list(range(len(items)))


@given(any_rules, pools(), st.randoms(use_true_random=False))
def test_the_order_of_the_candidates_does_not_matter(
    wanted: Rules, all_: Pool, random: Any
) -> None:
    assert all_.vectors is not None
    assert all_.authors is not None
    assert all_.ages is not None
    assert all_.available is not None
    mixed = list(range(len(all_.item_ids)))
    random.shuffle(mixed)
    shuffled = Pool(
        all_.item_ids[mixed],
        all_.scores[mixed],
        all_.vectors[mixed],
        all_.authors[mixed],
        all_.ages[mixed],
        all_.available[mixed],
    )
    assert listed(wanted, shuffled) == listed(wanted, all_)


@given(any_rules, pools())
def test_a_shorter_list_is_the_beginning_of_a_longer_one(wanted: Rules, all_: Pool) -> None:
    assert listed(wanted, all_, 5) == listed(wanted, all_, 12)[:5]


@given(any_rules, pools())
def test_the_unit_of_the_scores_does_not_matter(wanted: Rules, all_: Pool) -> None:
    scaled = Pool(
        all_.item_ids,
        (all_.scores * 2**4 + 2**7),  # exact in binary, so that ties stay ties
        all_.vectors,
        all_.authors,
        all_.ages,
        all_.available,
    )
    assert listed(wanted, scaled) == listed(wanted, all_)
