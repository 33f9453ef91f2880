"""The catalogue in memory finds all that could be among the best, however it is ordered."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tterec.retrieval import matrix
from tterec.retrieval.base import Candidates
from tterec.retrieval.matrix import MatrixIndex, Pairs


def catalogue(vectors: NDArray[np.float32]) -> MatrixIndex:
    ids = 10 * np.arange(1, len(vectors) + 1)
    return MatrixIndex(Candidates(ids, list(map(str, ids)), [None] * len(ids), vectors))


def excluded(random: np.random.Generator, users: int, items: int, most: int) -> Pairs:
    cells = np.unique(random.integers(0, users * items, random.integers(0, most + 1)))
    return Pairs(*np.divmod(cells, items))


def assert_the_best_are_found(
    vectors: NDArray[np.float32], queries: NDArray[np.float64], k: int, without: Pairs
) -> None:
    found = catalogue(vectors).nearest(queries, k, without)
    assert (np.diff(found.owners) >= 0).all()
    scores = queries @ vectors.T.astype(np.float64)
    scores[without.owners, without.rows] = -np.inf
    bounds = np.searchsorted(found.owners, np.arange(len(queries) + 1))
    for row, (start, stop) in zip(scores, pairwise(bounds), strict=True):
        rows = found.rows[start:stop]
        assert len(set(rows)) == len(rows)
        assert (row[rows] > -np.inf).all()
        possible = int((row > -np.inf).sum())
        assert len(rows) >= min(k, possible)
        best = np.sort(row[row > -np.inf])[::-1][:k]
        np.testing.assert_allclose(np.sort(row[rows])[::-1][:k], best, atol=1e-12)
        if len(best):  # all that tie with the last, too
            assert set(np.flatnonzero(row >= best[-1])) <= set(rows)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([7, 40, 333]), st.integers(0, 50))
def test_in_many_products_as_in_one(seed: int, at_once: int, k: int) -> None:
    random = np.random.default_rng(seed)
    users, items = int(random.integers(1, 6)), int(random.integers(1, 200))
    vectors = random.normal(size=(items, 4)).astype(np.float32).round(1)  # many ties
    queries = random.normal(size=(users, 4)).round(1)
    before = matrix._SCORES_AT_ONCE
    matrix._SCORES_AT_ONCE = at_once
    try:
        assert_the_best_are_found(vectors, queries, k, excluded(random, users, items, 60))
    finally:
        matrix._SCORES_AT_ONCE = before


@pytest.mark.parametrize("order", ["ascending", "descending", "equal"])
def test_whatever_the_catalogue_is_ordered_by(order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrix, "_SCORES_AT_ONCE", 300)
    values = {"ascending": np.arange(500), "descending": -np.arange(500), "equal": np.ones(500)}
    vectors = np.column_stack([values[order], np.ones(500)]).astype(np.float32)
    queries = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])
    assert_the_best_are_found(vectors, queries, 10, Pairs(np.array([0, 1]), np.array([499, 0])))


def test_none_where_nobody_asks_for_none_or_nothing_is_there() -> None:
    index = catalogue(np.ones((3, 2), np.float32))
    assert len(index.nearest(np.ones((2, 2)), 0, matrix.NO_PAIRS)) == 0
    assert len(index.nearest(np.ones((0, 2)), 5, matrix.NO_PAIRS)) == 0
    nothing = catalogue(np.ones((0, 2), np.float32))
    assert len(nothing.nearest(np.ones((2, 2)), 5, matrix.NO_PAIRS)) == 0


def test_what_is_held_stays_small_where_late_items_are_better(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Items that come in an order which deceives the chunks are forgotten in time."""
    monkeypatch.setattr(matrix, "_SCORES_AT_ONCE", 1_000)
    most = 0
    tighten = matrix._Best._tighten

    def watched(best: matrix._Best) -> None:
        nonlocal most
        most = max(most, best._count)
        tighten(best)

    monkeypatch.setattr(matrix._Best, "_tighten", watched)
    chunks = 20
    rows = np.arange(2_000)
    vectors = np.column_stack([rows % chunks, rows % 7]).astype(np.float32)
    queries = np.array([[1.0, 0.001]] * 10)
    assert_the_best_are_found(vectors, queries, 5, matrix.NO_PAIRS)
    assert 0 < most <= 3_000
