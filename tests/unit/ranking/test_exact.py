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
