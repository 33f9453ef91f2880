"""Item-item weights: ridge regressions whose solutions are known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from tterec import arrays
from tterec.ranking.item_weights import Regression, fit_item_weights
from tterec.records import Progress


def met(rows: list[list[int]], items: int) -> sparse.csr_array:
    offsets = np.cumsum([0, *map(len, rows)])
    flat = np.array([item for row in rows for item in row], dtype=np.int64)
    return sparse.csr_array((np.ones(len(flat)), flat, offsets), shape=(len(rows), items))


def dense_ridge(x: np.ndarray, ridge: float, dropout: float) -> np.ndarray:
    """Row i: the weights of item i on all others, each by its own normal equations."""
    gram = x.T @ x
    items = len(gram)
    weights = np.zeros((items, items))
    for item in range(items):
        others = np.delete(np.arange(items), item)
        block = gram[np.ix_(others, others)].copy()
        block[np.diag_indices(len(others))] += ridge + dropout * gram.diagonal()[others]
        weights[item, others] = np.linalg.solve(block, gram[others, item])
    return weights


def test_two_items_by_hand() -> None:
    # 3 users met both, 1 met the second alone: w = shared / (count of the other + ridge).
    found = fit_item_weights(
        met([[0, 1], [0, 1], [1, 0], [1]], 2), Regression(ridge=2.0, dropout=0.0)
    ).toarray()
    np.testing.assert_allclose(found, [[0, 3 / (4 + 2)], [3 / (3 + 2), 0]], rtol=1e-6)


def test_dropout_adds_the_neighbours_own_count() -> None:
    found = fit_item_weights(
        met([[0, 1], [0, 1], [1, 0], [1]], 2), Regression(ridge=2.0, dropout=0.5)
    ).toarray()
    np.testing.assert_allclose(found, [[0, 3 / (6 + 2)], [3 / (4.5 + 2), 0]], rtol=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 12), st.floats(0.5, 50), st.floats(0, 2))
def test_with_all_neighbours_it_is_the_whole_regression(
    seed: int, items: int, ridge: float, dropout: float
) -> None:
    x = (np.random.default_rng(seed).random((20, items)) < 0.4).astype(float)
    found = fit_item_weights(
        sparse.csr_array(x), Regression(ridge=ridge, dropout=dropout, kept=items)
    ).toarray()
    wanted = dense_ridge(x, ridge, dropout)
    # Items that share no user are no neighbours: the regression is on the others alone.
    if ((x.T @ x) > 0).all():
        np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert (found.diagonal() == 0).all()
    assert (found[(x.T @ x) == 0] == 0).all()


def test_explaining_away() -> None:
    """Everybody who met 1 met 0 as well. What 2 shares with 1 it owes to 0."""
    rng = np.random.default_rng(1)
    zero = rng.random(2000) < 0.5
    x = np.column_stack([zero, zero & (rng.random(2000) < 0.5), zero & (rng.random(2000) < 0.5)])
    shared = (x.T.astype(float) @ x)[2, 1]
    weights = fit_item_weights(sparse.csr_array(x.astype(float)), Regression(ridge=1, dropout=0))
    assert shared > 200
    assert weights.toarray()[2, 0] > 0.4
    assert abs(weights.toarray()[2, 1]) < 0.1


def test_only_the_greatest_weights_are_kept() -> None:
    x = (np.random.default_rng(2).random((300, 30)) < 0.3).astype(float)
    whole = fit_item_weights(sparse.csr_array(x), Regression(kept=30)).toarray()
    kept = fit_item_weights(sparse.csr_array(x), Regression(kept=4)).toarray()
    assert ((kept != 0).sum(axis=1) == 4).all()
    for all_weights, row in zip(np.abs(whole), kept, strict=True):
        assert set(np.flatnonzero(row)) == set(np.argsort(-all_weights)[:4])


@pytest.mark.parametrize("at_once", [1, 5, 100])
def test_a_user_counts_with_their_first_items_alone(
    monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(arrays, "AT_ONCE", at_once)
    rows = [[0, 1, 2, 3], [], [4], [2, 3, 0, 1], []]
    found = fit_item_weights(met(rows, 5), Regression(most_met=2)).toarray()
    assert {tuple(pair) for pair in np.argwhere(found > 0)} == {(0, 1), (1, 0), (2, 3), (3, 2)}


def test_items_that_nobody_met_have_no_weights() -> None:
    for rows, items in (([[0, 1]], 5), ([[]], 3), ([], 2), ([[2]], 3)):
        found = fit_item_weights(met(rows, items))
        assert found.shape == (items, items)
        assert found.nnz == (2 if rows == [[0, 1]] else 0)


def test_the_rows_order_of_users_changes_nothing() -> None:
    x = (np.random.default_rng(3).random((200, 25)) < 0.3).astype(float)
    first = fit_item_weights(sparse.csr_array(x)).toarray()
    second = fit_item_weights(sparse.csr_array(x[::-1].copy())).toarray()
    assert first.tobytes() == second.tobytes()


def test_progress_ends_at_the_number_of_items() -> None:
    seen: list[Progress] = []
    fit_item_weights(met([[0, 1], [1, 2]], 3), progress=seen.append)
    assert (seen[0].done, seen[-1].done, seen[-1].total) == (0, 3, 3)


@pytest.mark.parametrize("most_pairs", [5, 1000])
def test_pairs_dropped_from_a_long_row_stay_where_the_other_row_keeps_them(
    most_pairs: int,
) -> None:
    x = (np.random.default_rng(4).random((400, 40)) < 0.2).astype(float)
    found = fit_item_weights(
        sparse.csr_array(x), Regression(neighbours=5, kept=5, most_pairs=most_pairs)
    )
    assert np.isfinite(found.data).all()
    assert (np.diff(found.indptr) == 5).all()


def test_interactions_count_by_their_values() -> None:
    # Two users: both items at 1 and .5, and the second at .8 alone.
    x = sparse.csr_array(np.array([[1.0, 0.5], [0.0, 0.8]]))
    found = fit_item_weights(x, Regression(ridge=2.0, dropout=0.0)).toarray()
    np.testing.assert_allclose(found, [[0, 0.5 / (0.25 + 0.64 + 2)], [0.5 / (1 + 2), 0]], rtol=1e-6)
