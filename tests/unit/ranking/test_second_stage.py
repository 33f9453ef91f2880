"""The second stage in memory: what is looked at, how it is scored, how the mixture is chosen."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse

from tterec.ranking.histories import Met, met_by
from tterec.ranking.lists import best_of, ranked_lists
from tterec.ranking.mixture import LEAST_USERS, mix
from tterec.ranking.second_stage import Stage, unmixed, with_traits
from tterec.ranking.traits import Trait, traits_of
from tterec.records import (
    LEADERS,
    Column,
    FeatureTable,
    Interactions,
    TrainedModel,
    TrainedVectors,
)

IDS = np.array([10, 20, 30, 40, 50])
# Having met 10 speaks for 30 and, less, for 50; having met 20 speaks against 30.
WEIGHTS = sparse.csr_array(
    np.array(
        [
            [0, 0, 0, 0, 0],
            [0, 0, 0, 0, 0],
            [0.5, -0.25, 0, 0, 0],
            [0, 0, 0, 0, 0],
            [0.125, 0, 0, 0, 0],
        ],
        dtype=np.float32,
    )
)


def interactions(pairs: list[tuple[int, int]]) -> Interactions:
    users, items = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    unknown = np.full(len(users), np.nan)
    return Interactions(users, items, unknown.astype(np.float32), unknown)


def vectors(items: np.ndarray, profile: np.ndarray) -> TrainedVectors:
    """Users' vectors are the profile, whatever they met."""
    return TrainedVectors(
        item_ids=IDS[: len(items)],
        item_embeddings=items.astype(np.float32),
        history_vectors=np.zeros_like(items, dtype=np.float32),
        user_ids=np.zeros(0, dtype=np.int64),
        profile_vectors=np.zeros((0, items.shape[1]), dtype=np.float32),
        default_profile=profile.astype(np.float32),
        history_weights=np.ones(12),
        normalised=False,
        max_history=3,
    )


def test_evidence_is_the_sum_over_the_items_met() -> None:
    stage = Stage(unmixed(IDS, WEIGHTS, unrated_weight=0.5))
    ratings = np.array([10, np.nan, 8], dtype=np.float32)
    found = stage.evidence(Met(np.array([0, 1, 3, 3]), np.array([0, 0, 1]), ratings))
    np.testing.assert_allclose(
        found, [[0, 0, 0.5, 0, 0.125], [0, 0, 0.25 - 0.2, 0, 0.0625], [0] * 5], rtol=1e-6
    )


def test_leads_are_what_an_item_speaks_for_best_first() -> None:
    leads = unmixed(IDS, WEIGHTS).leads
    assert leads[0, :3].tolist() == [30, 50, -1]
    assert (leads[1:] == -1).all()


def test_candidates_are_the_nearest_and_the_leads_and_never_the_forbidden() -> None:
    stage = Stage(replace(unmixed(IDS, WEIGHTS), candidates=2))
    similarities = np.array([[-np.inf, 0.9, 0.1, 0.8, 0.2], [0.5, 0.4, 0.3, 0.2, -np.inf]])
    met = Met(np.array([0, 1, 2]), np.array([0, 0]), np.full(2, np.nan, dtype=np.float32))
    looked_at = stage.candidates(similarities, met)
    assert looked_at.tolist() == [
        [False, True, True, True, True],
        [True, True, True, False, False],
    ]
    assert stage.candidates(similarities, met, at_least=9).sum() == 8


def test_only_the_most_telling_items_name_candidates() -> None:
    """Each of 100 items leads to the next; a user has met all but the last, the newest first."""
    items = 100
    weights = sparse.csr_array(np.roll(np.eye(items), 1, axis=0))
    stage = Stage(replace(unmixed(np.arange(items), weights), candidates=1))
    met = np.arange(items - 1)[::-1]
    history = Met(np.array([0, len(met)]), met, np.full(len(met), np.nan, dtype=np.float32))
    led = set((met[:LEADERS] + 1).tolist())
    assert set(stage.led_by(history)[1].tolist()) == led
    looked_at = stage.candidates(-np.arange(items, dtype=float)[None], history)
    assert set(np.flatnonzero(looked_at[0]).tolist()) == {0, *led}


def test_scores_are_the_mixture_where_an_item_is_looked_at() -> None:
    stage = Stage(replace(unmixed(IDS, WEIGHTS), candidates=1, similarity_weight=2.0))
    met = Met(np.array([0, 1]), np.array([0]), np.full(1, np.nan, dtype=np.float32))
    found = stage.scores(np.array([[-np.inf, 0.9, 0.1, 0.8, 0.2]]), met)
    np.testing.assert_allclose(found, [[-np.inf, 1.8, 0.7, -np.inf, 0.525]])


def test_lists_use_the_second_stage_only_for_those_who_met_something() -> None:
    model = TrainedModel(
        vectors(np.array([[0.1], [0.9], [0.2], [0.8], [0.3]]), np.ones(1)),
        b"",
        {},
        ranker=replace(unmixed(IDS, WEIGHTS), similarity_weight=0.1),
    )
    known = interactions([(1, 10), (3, 20), (3, 99)])  # nobody knows item 99
    found = ranked_lists(model, known, np.array([1, 2, 3]), 3)
    assert found.item_ids.tolist() == [[30, 50, 20], [20, 40, 50], [40, 50, 10]]
    np.testing.assert_allclose(
        found.scores, [[0.52, 0.155, 0.09], [0.9, 0.8, 0.3], [0.08, 0.03, 0.01]], atol=1e-7
    )
    without = ranked_lists(model, known, np.array([1]), 9, ranker=False)
    assert without.item_ids.tolist() == [[20, 40, 50, 30, -1, -1, -1, -1, -1]]
    assert np.isnan(without.scores[0, 4:]).all()


def test_equal_scores_rank_by_id_across_the_cut() -> None:
    scores = np.array([0.5, 0.5 + 1e-9, 0.7, 0.5, -np.inf])
    assert best_of(IDS, scores, 2).tolist() == [2, 0]
    assert best_of(IDS, scores, 0).tolist() == []
    assert best_of(IDS, scores, 9).tolist() == [2, 0, 1, 3]


def test_histories_are_ordered_and_cut_as_in_serving() -> None:
    nan = np.nan
    known = Interactions(
        np.array([7, 7, 7, 7, 5]),
        np.array([10, 20, 30, 40, 50]),
        np.array([nan, 3, 9, 9, nan], dtype=np.float32),
        np.array([nan, 1.0, 5.0, 1.0, nan]),
    )
    met = met_by(known, np.array([6, 7, 5]), IDS)
    assert [met.of(user).tolist() for user in range(3)] == [[], [2, 3, 1, 0], [4]]
    assert [met.newest(2).of(user).tolist() for user in range(3)] == [[], [2, 3], [4]]
    assert met.select(np.array([2, 1])).of(1).tolist() == [2, 3, 1, 0]


@pytest.fixture
def crowd() -> tuple[Interactions, Interactions]:
    """80 users who met item 10; held out is 30 for all of them."""
    return (
        interactions([(user, 10) for user in range(80)]),
        interactions([(user, 30) for user in range(80)]),
    )


def test_the_mixture_follows_what_ranks_the_held_out_items(
    crowd: tuple[Interactions, Interactions],
) -> None:
    far = vectors(np.array([[0.0], [0.5], [-1.0], [0.4], [0.3]]), np.ones(1))
    mixed = mix(unmixed(IDS, WEIGHTS), [], far, *crowd)
    assert mixed is not None
    assert mixed.ndcg == 1.0  # evidence puts 30 first
    assert mixed.ndcg_without == pytest.approx(1 / np.log2(5))  # it is the last of four
    assert mixed.similarity < 0.2


def test_the_mixture_leans_on_similarity_where_evidence_misleads(
    crowd: tuple[Interactions, Interactions],
) -> None:
    near = vectors(np.array([[0.0], [0.5], [1.0], [0.4], [0.3]]), np.ones(1))
    misleading = sparse.csr_array((np.array([0.4], dtype=np.float32), ([1], [0])), shape=(5, 5))
    mixed = mix(unmixed(IDS, misleading), [], near, *crowd)
    assert mixed is not None
    assert mixed.ndcg == mixed.ndcg_without == 1.0
    assert mixed.similarity * 0.5 > 0.4  # else 20 would be before 30


def test_a_held_out_item_that_is_no_candidate_counts_as_missed(
    crowd: tuple[Interactions, Interactions],
) -> None:
    far = vectors(np.array([[0.0], [0.5], [-1.0], [0.4], [0.3]]), np.ones(1))
    nothing = sparse.csr_array((5, 5), dtype=np.float32)
    mixed = mix(replace(unmixed(IDS, nothing), candidates=2), [], far, *crowd)
    assert mixed is not None
    assert mixed.ndcg == 0.0
    assert mixed.ndcg_without > 0


def test_too_few_validation_users_choose_nothing() -> None:
    few = LEAST_USERS - 1
    known = interactions([(user, 10) for user in range(few)])
    held_out = interactions([(user, 30) for user in range(few)])
    near = vectors(np.array([[0.0], [0.5], [1.0], [0.4], [0.3]]), np.ones(1))
    assert mix(unmixed(IDS, WEIGHTS), [], near, known, held_out) is None


def test_a_trait_that_the_held_out_item_shares_gets_weight(
    crowd: tuple[Interactions, Interactions],
) -> None:
    """Evidence is for 40, similarity for 20; 30 has the trait of 10, which everybody met."""
    far = vectors(np.array([[0.0], [0.9], [-1.0], [0.4], [0.3]]), np.ones(1))
    evidence = sparse.csr_array((np.array([0.01], dtype=np.float32), ([3], [0])), shape=(5, 5))
    shared = Trait("author", sparse.csr_array(np.array([[1.0], [0], [1], [0], [0]])))
    useless = Trait("shelf", sparse.csr_array(np.array([[1.0], [1], [0], [1], [1]])))
    mixture = mix(unmixed(IDS, evidence), [useless, shared], far, *crowd)
    assert mixture is not None
    assert mixture.traits[0] == 0.0
    assert mixture.traits[1] > 0.01
    assert mixture.ndcg == 1.0
    ranker = with_traits(unmixed(IDS, evidence), [useless, shared], mixture.traits)
    history = met_by(crowd[0], np.array([1]), IDS)
    found = Stage(ranker).evidence(history)
    spoken = mixture.traits[1] * np.log(1 + 1.0)
    np.testing.assert_allclose(found, [[spoken, 0, spoken, 0.01, 0]], rtol=1e-6)


def test_traits_are_values_that_some_but_not_most_items_share() -> None:
    def column(name: str, kind: str, values: list[object]) -> Column:
        held = np.empty(len(values), dtype=object)
        held[:] = values
        return Column(name, kind, held)  # type: ignore[arg-type]

    names = ["Ann  Lee", "ann lee", None, "Bo", "Cy"] + ["everywhere"] * 55
    genres = [["a", "b"], ["b", None], None, [], ["c"]] + [["c", "d"]] * 2 + [[]] * 53
    items = FeatureTable(
        np.arange(60),
        (
            column("author", "text", names),
            column("genres", "text[]", genres),
            column("title", "text", [f"title {n}" for n in range(60)]),
            Column("year", "number", np.arange(60.0)),
        ),
    )
    found = traits_of(items)
    assert [trait.name for trait in found] == ["author", "genres"]
    assert found[0].values.toarray()[:5].tolist() == [[1], [1], [0], [0], [0]]
    # b; c, of three items; d
    assert found[1].values.toarray()[:6].tolist() == [
        [1, 0, 0],
        [1, 0, 0],
        [0, 0, 0],
        [0, 0, 0],
        [0, 1, 0],
        [0, 1, 1],
    ]


def test_among_equal_scores_the_held_out_item_ranks_by_id(
    crowd: tuple[Interactions, Interactions],
) -> None:
    """All evidence is zero and all are as near: 20 is before 30, whatever the weights."""
    level = vectors(np.full((5, 1), 0.5), np.ones(1))
    nothing = sparse.csr_array((5, 5), dtype=np.float32)
    mixture = mix(unmixed(IDS, nothing), [], level, *crowd)
    assert mixture is not None
    assert mixture.ndcg == pytest.approx(1 / np.log2(3))
