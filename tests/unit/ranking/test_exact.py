"""Sums of evidence and mixed scores."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tterec.ranking import exact

LISTS = st.lists(
    st.lists(st.tuples(st.integers(0, 20), st.floats(-1, 1, width=32)), max_size=6), max_size=8
)


def test_by_hand() -> None:
    found = exact.evidence_sums(
        np.array([0, 2, 2, 3]),
        np.array([4, 7, 4]),
        np.array([0.5, 0.25, -1.0], dtype=np.float32),
        np.array([7, 4, 100]),
        exact.voices(np.array([5.0, np.nan, 10.0]), unrated_weight=0.25),
    )
    assert found.tolist() == [0.25 * 0.5 + 0.5 * 0.25, 0.0, 0.25 * -1.0]
    assert exact.mixed_scores(np.array([0.1234567, -0.0]), np.zeros(2), 2.0).tolist() == [
        0.246913,
        0.0,
    ]


@given(LISTS, st.sets(st.integers(0, 20)))
def test_the_sum_of_the_weights_whose_source_was_met(
    rows: list[list[tuple[int, float]]], met: set[int]
) -> None:
    found = exact.evidence_sums(
        np.cumsum([0, *map(len, rows)]),
        np.array([source for row in rows for source, _ in row], dtype=np.int64),
        np.array([weight for row in rows for _, weight in row], dtype=np.float32),
        np.array(list(met), dtype=np.int64),
        np.array([1 + item / 10 for item in met]),
    )
    wanted = [
        sum(weight * (1 + source / 10) for source, weight in row if source in met) for row in rows
    ]
    np.testing.assert_allclose(found, wanted, atol=1e-12)


def test_similarity_shares_by_hand() -> None:
    """Weights 1 for a 10 and 0.5 unrated; the sum is (3, 4) of norm 5."""
    weights = np.zeros(12)
    weights[10], weights[11] = 1.0, 0.5
    profile, history = np.array([1.0, 2.0]), np.sqrt(2) * np.array([[1.0, 1.0], [2.0, 2.0]])
    given = (profile, history, np.array([10.0, np.nan]), weights)
    embedding = np.array([1.0, -1.0])
    raw = exact.similarity_shares(*given, normalised=False, embedding=embedding)
    np.testing.assert_allclose(raw, [0.0, 0.0, -1.0], atol=1e-12)
    embedding = np.array([1.0, 0.0])
    unit = exact.similarity_shares(*given, normalised=True, embedding=embedding)
    np.testing.assert_allclose(unit, [1 / 5, 1 / 5, 1 / 5])
    nobody = exact.similarity_shares(
        profile, np.zeros((0, 2)), np.zeros(0), weights, normalised=True, embedding=embedding
    )
    np.testing.assert_allclose(nobody, [1 / np.sqrt(5)])


def test_spoken_shares_by_hand() -> None:
    """Items at places 0 and 2 share trait 9; the second alone has trait 8, which says nothing."""
    rows, amounts = exact.spoken_shares(
        np.array([0, 2]),
        [np.array([9]), np.array([8, 9])],
        np.array([0.9, 0.3]),
        np.array([0, 1, 9]),
        np.array([0.5, 7.0, 2.0], dtype=np.float32),
    )
    by_item = np.bincount(rows, weights=amounts)
    trait = 2.0 * np.log(1 + 1.2)
    np.testing.assert_allclose(by_item, [0.45 + trait * 0.75, trait * 0.25], rtol=1e-6)


def test_what_is_not_heard_says_nothing() -> None:
    nothing = np.zeros(0, dtype=np.int64)
    rows, amounts = exact.spoken_shares(
        np.array([4]), [np.array([9])], np.array([0.0]), np.array([4, 9]), np.array([1.0, 1.0])
    )
    assert amounts.tolist() == [0.0, 0.0]
    assert rows.tolist() == [0, 0]
    rows, amounts = exact.spoken_shares(nothing, [], np.zeros(0), nothing, np.zeros(0))
    assert len(rows) == len(amounts) == 0
    rows, amounts = exact.spoken_shares(
        np.array([4]), [nothing], np.array([1.0]), nothing, np.zeros(0)
    )
    assert amounts.tolist() == [0.0]
