"""What is computed for many users at once is what is computed for one."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.integration.generations import random_ranker
from tterec.ranking import exact
from tterec.ranking.histories import Met
from tterec.ranking.second_stage import Stage

SEEDS = st.integers(0, 2**32 - 1)


@settings(deadline=None)
@given(SEEDS, st.booleans())
def test_user_vectors_are_equal_to_the_last_bit(seed: int, normalised: bool) -> None:
    random = np.random.default_rng(seed)
    lengths = random.choice([0, 1, 2, 20, 200], size=7)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    dim = int(random.integers(2, 70))
    history = random.normal(size=(50, dim)).astype(np.float32)
    profiles = random.normal(size=(7, dim)).astype(np.float32)
    profiles[0] = 0
    rows = random.integers(0, 50, offsets[-1])
    ratings = random.integers(0, 11, len(rows)).astype(np.float32)
    ratings[random.random(len(rows)) < 0.3] = np.nan
    weights = random.normal(size=12)
    found = exact.user_vectors(
        profiles,
        rows,
        offsets,
        ratings,
        history_vectors=history,
        history_weights=weights,
        normalised=normalised,
    )
    for user, vector in enumerate(found):
        part = slice(offsets[user], offsets[user + 1])
        wanted = exact.user_vector(
            profiles[user], history[rows[part]], ratings[part], weights, normalised
        )
        assert np.array_equal(vector, wanted)


@given(SEEDS)
def test_scores_of_pairs_are_equal_to_the_last_bit(seed: int) -> None:
    random = np.random.default_rng(seed)
    users, items = random.normal(size=(5, 33)), random.normal(size=(40, 33)).astype(np.float32)
    owners = np.sort(random.integers(0, 5, 40))
    together = exact.exact_scores(users[owners], items)
    for user in range(5):
        mine = owners == user
        assert np.array_equal(together[mine], exact.exact_scores(users[user], items[mine]))


@given(SEEDS, st.integers(0, 6))
def test_each_is_ranked_as_if_alone(seed: int, k: int) -> None:
    random = np.random.default_rng(seed)
    owners = np.sort(random.integers(0, 5, 30))
    item_ids, scores = random.permutation(30), random.integers(0, 4, 30) / 4
    together = exact.rank_each(owners, item_ids, scores, k)
    alone = []
    for user in range(5):
        mine = np.flatnonzero(owners == user)
        alone += mine[exact.rank(item_ids[mine], scores[mine], k)].tolist()
    assert together.tolist() == alone


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_evidence_for_pairs_is_that_of_all(seed: int) -> None:
    random = np.random.default_rng(seed)
    stage = Stage(random_ranker(np.arange(1, 61), seed=seed))
    lengths = random.integers(0, 8, 5)
    met = np.concatenate([random.permutation(60)[:length] for length in lengths])
    ratings = random.integers(1, 11, len(met)).astype(np.float32)
    history = Met(np.concatenate([[0], np.cumsum(lengths)]), met, ratings)
    users, rows = np.divmod(random.permutation(5 * 60)[:200], 60)
    found = stage.evidence_for(history, users, rows)
    assert np.array_equal(found, stage.evidence(history)[users, rows])
    led_users, led = stage.led_by(history)
    for user in range(5):
        wanted = {
            int(item) - 1
            for row in history.of(user)
            for item in stage.ranker.leads[row]
            if item > 0
        }
        assert set(led[led_users == user].tolist()) == wanted
