"""The benchmark of quality: fair splits, fair tuning, and ratios worked out by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.benchmarks.quality_features import tokens
from tests.benchmarks.quality_report import Method, Ratings, paired_ratio, rating_verdict, verdicts
from tests.benchmarks.quality_sets import QualitySet, held_out_by_user, inner, load_set, split
from tests.benchmarks.quality_tuning import Cache, Seconds, candidates, tune
from tests.benchmarks.quality_worlds import BARE, DENSE, World, generated
from tterec.records import Column, FeatureTable, Interactions


def small(seed: int = 0) -> QualitySet:
    """Three users of the four items 10, 20, 30 and 40; what they rated 9 is held out."""
    users = np.array([1, 1, 1, 2, 2, 2, 3, 3])
    items = np.array([10, 20, 30, 10, 20, 40, 30, 40])
    ratings = np.array([8, 8, 9, 8, 8, 9, 8, 9], dtype=np.float32)
    interactions = Interactions(users, items, ratings, np.full(8, np.nan))
    tables = FeatureTable(np.array([1, 2, 3])), FeatureTable(np.array([10, 20, 30, 40]))
    return split("small", seed, (interactions, *tables), ratings == 9)


@given(ids=st.lists(st.integers(0, 8), max_size=120), seed=st.integers(0, 3))
def test_a_fifth_of_each_users_interactions_is_held_out(ids: list[int], seed: int) -> None:
    user_ids = np.array(ids, dtype=np.int64)
    held_out = held_out_by_user(user_ids, 0.2, seed)
    for user in set(ids):
        count = ids.count(user)
        assert held_out[user_ids == user].sum() == int(0.2 * count + 0.5)


def test_every_interaction_has_the_same_chance_to_be_held_out() -> None:
    held_out = held_out_by_user(np.repeat(np.arange(2_000), 10), 0.2, 0).reshape(2_000, 10)
    assert held_out.sum(axis=0).min() > 340  # 400 expected, standard deviation 18


def test_relevant_are_liked_and_unrated_ones_of_the_test_share() -> None:
    interactions = Interactions(
        np.array([1, 1, 1, 1, 2, 2]),
        np.array([10, 20, 30, 40, 10, 20]),
        np.array([9, 7, 6, np.nan, 9, 6], dtype=np.float32),
        np.full(6, np.nan),
    )
    tables = FeatureTable(np.array([1, 2])), FeatureTable(np.array([10, 20, 30, 40]))
    data = split("x", 0, (interactions, *tables), np.array([0, 1, 1, 1, 0, 1], dtype=bool))
    assert data.judged.tolist() == [1]  # user 2 liked nothing of the test share
    assert [items.tolist() for items in data.relevant] == [[20, 40]]
    assert len(data.train) == 2


def test_tuning_sees_nothing_of_the_test_share() -> None:
    data = load_set("bare", Path("unused"), 0)
    validation = inner(data)

    def pairs(interactions: Interactions) -> set[tuple[int, int]]:
        return set(zip(interactions.user_ids.tolist(), interactions.item_ids.tolist(), strict=True))

    assert pairs(validation.train) | pairs(validation.test) == pairs(data.train)
    assert not pairs(validation.train) & pairs(validation.test)
    assert not pairs(data.train) & pairs(data.test)


@pytest.mark.parametrize("world", [DENSE, BARE])
def test_a_generated_world_is_reproducible_and_has_sequels(world: World) -> None:
    small_world = replace(world, users=300, items=400, per_user=20, in_series=0.9, sequel=0.9)
    interactions, users, items = generated(small_world)
    generated.cache_clear()
    again, *_ = generated(small_world)
    assert np.array_equal(interactions.item_ids, again.item_ids)
    assert np.array_equal(interactions.ratings, again.ratings)
    pairs = np.column_stack([interactions.user_ids, interactions.item_ids])
    assert len(np.unique(pairs, axis=0)) == len(pairs)
    assert interactions.ratings.min() >= 1
    assert interactions.ratings.max() == 10
    assert bool(items.columns) == bool(users.columns) == world.content
    # Without sequels, two parts of a series meet in fewer histories.
    lonely, *_ = generated(replace(small_world, sequel=0.0))
    assert _most_met_together(interactions) > 1.3 * _most_met_together(lonely)


def _most_met_together(interactions: Interactions) -> float:
    """The mean over items of the greatest cosine with another item."""
    met = np.zeros((interactions.user_ids.max() + 1, 400))
    met[interactions.user_ids, interactions.item_ids] = 1
    met /= np.maximum(np.linalg.norm(met, axis=0), 1)
    cosines = met.T @ met
    np.fill_diagonal(cosines, 0)
    return float(cosines.max(axis=1).mean())


def test_a_ratio_is_that_of_the_sums_and_its_interval_is_paired() -> None:
    users = np.repeat(np.arange(100), 2)  # two seeds
    theirs = np.linspace(0.1, 0.9, 200)
    ratio = paired_ratio(users, 1.5 * theirs, theirs)
    assert ratio.value == pytest.approx(1.5)
    # However users differ, one method is 1.5 times the other for each of them.
    assert (ratio.low, ratio.high) == pytest.approx((1.5, 1.5))


def test_an_interval_is_as_wide_as_the_number_of_users_says() -> None:
    random = np.random.default_rng(0)
    ours, theirs = random.random(4_000), random.random(4_000)
    of_many = paired_ratio(np.arange(4_000), ours, theirs)
    of_few = paired_ratio(np.repeat(np.arange(40), 100), ours, theirs)
    # The ratio's deviation is sqrt(2 / 12 / 4000) / .5, about .013.
    assert 0.8 < (of_many.high - of_many.low) / (2 * 1.96 * 0.0129) < 1.2
    assert of_many.low < 1 < of_many.high
    assert of_few.value == of_many.value


def method(name: str, lists: list[list[int]], seconds: float) -> Method:
    found = Method(name)
    found.add(small(), np.array(lists), Seconds(seconds, seconds))
    return found


def test_the_verdict_says_where_a_peer_wins() -> None:
    # Relevant are 30, 40 and 40.
    ours = method("tterec", [[30, -1], [10, 40], [10, 20]], 30.0)
    better = method("ease", [[30, -1], [40, -1], [10, 40]], 60.0)
    worse = method("ials", [[30, -1], [20, 10], [10, 20]], 10.0)
    assert ours.mean("recall@20") == pytest.approx(2 / 3)
    assert ours.mean("NDCG@20") == pytest.approx((1 + 1 / np.log2(3)) / 3)
    said = verdicts([ours, better, worse], [better, worse])
    assert any(line.startswith("recall@20: 0.667") and "MISSED" in line for line in said)
    assert any(line.startswith("ease WINS") for line in said)
    assert not any(line.startswith("ials WINS") for line in said)
    assert any("0.50 times ease's" in line and "3.00 times ials's" in line for line in said)
    assert any("coverage: 1.000, no lower than ials's 0.750" in line for line in said)


def test_rmse_is_the_root_of_the_pooled_mean_square() -> None:
    one, took = np.ones(3), (Seconds(1, 1), Seconds(2, 2))
    ratings = Ratings([np.arange(3)] * 2, [one, 3 * one], [4 * one, 4 * one], [took] * 2)
    line = rating_verdict(ratings)
    assert f"{np.sqrt(2):.4f}" in line
    assert "svd 2.0000" in line
    assert "is met" in line


def test_tuning_stops_when_the_budget_is_spent_but_not_before_four() -> None:
    settings = ({"x": 1}, {"x": 5}, {"x": 3})
    trials = candidates(settings, lambda _: {"x": 2})
    costly = tune(trials, lambda tried: (-abs(tried["x"] - 4.5), Seconds(9, 100)), budget=10)
    assert (costly.settings, costly.trials, costly.seconds) == ({"x": 5}, 4, 400)
    trials = candidates(settings, lambda _: {"x": 2})
    cheap = tune(trials, lambda tried: (tried["x"], Seconds(9, 1)), budget=10)
    assert cheap.trials == 10


def test_tuning_ends_with_the_settings_that_there_are() -> None:
    trials = candidates(({"x": 1}, {"x": 2}), None)
    assert tune(trials, lambda tried: (tried["x"], Seconds(1, 1)), budget=99).trials == 2


def test_the_cache_knows_settings_seed_and_data(tmp_path: Path) -> None:
    made = []

    def make() -> dict[str, np.ndarray]:
        made.append(1)
        return {"lists": np.array([len(made)])}

    cache, data = Cache(tmp_path), small()
    key = {"method": "knn", "settings": {"K": 10}}
    assert cache.get(data, key, make)["lists"] == [1]
    assert Cache(tmp_path).get(data, key, make)["lists"] == [1]
    assert cache.get(data, key | {"settings": {"K": 20}}, make)["lists"] == [2]
    assert cache.get(small(seed=1), key, make)["lists"] == [3]
    changed = replace(data, train=data.test)
    assert cache.get(changed, key, make)["lists"] == [4]
    assert Cache(None).get(data, key, make)["lists"] == [5]


def test_tokens_are_words_of_titles_parts_of_places_and_octiles() -> None:
    def texts(*values: str | None) -> np.ndarray:
        column = np.empty(len(values), dtype=object)
        column[:] = values
        return column

    table = FeatureTable(
        np.arange(4),
        (
            Column("title", "text", texts("Red sea", "Red RED", "red", None)),
            Column("location", "text", texts("a, usa", "b, usa", "c, USA", "usa")),
        ),
    )
    # `red` has three rows, `usa` four; all others are rare.
    assert tokens(table).toarray().sum(axis=1).tolist() == [2, 2, 2, 1]
    numbers = Column("year", "number", np.array([np.nan, *range(1, 25)]))
    matrix = tokens(FeatureTable(np.arange(25), (numbers,)))
    assert matrix.shape == (25, 8)
    assert matrix.sum(axis=0).tolist() == [[3] * 8]


def test_peers_rank_what_was_not_met() -> None:
    pytest.importorskip("threadpoolctl", reason="of the extra bench")
    from tests.benchmarks import quality_peers as peers

    problem = peers.Problem(small(), 1)
    # User 1 and 2 met 10 and 20, user 3 met 30; counts are 2, 2, 1, 0.
    scorer = peers.PEERS["popularity"].fit(problem, {"power": 0.0})
    assert problem.lists(scorer, 3).tolist() == [[30, 40, -1], [30, 40, -1], [10, 20, 40]]


@pytest.mark.parametrize("turned", [False, True])
def test_ease_by_users_is_ease_by_items(turned: bool) -> None:
    pytest.importorskip("threadpoolctl", reason="of the extra bench")
    from tests.benchmarks import quality_peers as peers

    met = np.random.default_rng(0).random((12, 30)) < 0.3
    met = met.T if turned else met
    met[:, 0] = True  # nobody without history
    users, items = met.nonzero()
    nothing = np.full(len(users), np.nan)
    interactions = Interactions(users, items, nothing.astype(np.float32), nothing)
    tables = FeatureTable(np.arange(met.shape[0])), FeatureTable(np.arange(met.shape[1]))
    data = split("x", 0, (interactions, *tables), np.zeros(len(users), dtype=bool))
    rows = np.arange(met.shape[0])
    scorer = peers.PEERS["ease"].fit(peers.Problem(data, 1), {"ridge": 5.0, "power": 0.0})
    inverse = np.linalg.inv(met.T.astype(float) @ met + 5 * np.eye(met.shape[1]))
    weights = np.eye(met.shape[1]) - inverse / np.diag(inverse)
    assert scorer(rows) == pytest.approx(met @ weights, abs=1e-4)


def test_ease_is_the_closed_form() -> None:
    pytest.importorskip("threadpoolctl", reason="of the extra bench")
    from tests.benchmarks import quality_peers as peers

    problem = peers.Problem(small(), 1)
    scores = peers.PEERS["ease"].fit(problem, {"ridge": 1.0, "power": 0.0})(np.array([0, 2]))
    # Items 10 and 20 met by the same two users: regressing one on the other with a ridge of 1,
    # the weight is 2 / (2 + 1). Items 30 and 40 meet no other.
    assert scores == pytest.approx(np.array([[2 / 3, 2 / 3, 0, 0], [0, 0, 0, 0]]), abs=1e-6)
