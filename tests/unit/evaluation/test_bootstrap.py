"""Intervals that hold what they promise."""

import numpy as np
import pytest

from tterec.evaluation.bootstrap import interval, resampled_ratios


def test_the_draws_scatter_as_the_mean_does() -> None:
    values = np.random.default_rng(1).normal(3, 2, size=(400, 1))
    samples = resampled_ratios(values, np.ones_like(values), seed=0)
    assert samples.shape == (1000, 1)
    assert samples.std() == pytest.approx(values.std() / np.sqrt(400), rel=0.1)
    (low,), (high,) = interval(samples)
    assert low == pytest.approx(values.mean() - 1.96 * 0.1, abs=0.03)
    assert high == pytest.approx(values.mean() + 1.96 * 0.1, abs=0.03)


def test_an_interval_of_95_percent_holds_the_truth_19_times_of_20() -> None:
    rng = np.random.default_rng(2)
    held = 0
    for trial in range(200):
        values = rng.exponential(1.0, size=(150, 1))
        (low,), (high,) = interval(
            resampled_ratios(values, np.ones_like(values), seed=trial, resamples=300)
        )
        held += low <= 1.0 <= high
    assert 178 <= held <= 199


def test_columns_share_their_draws_so_that_differences_are_paired() -> None:
    values = np.random.default_rng(3).normal(size=(50, 1))
    both = np.hstack([values, values + 0.25])
    samples = resampled_ratios(both, np.ones_like(both), seed=0)
    np.testing.assert_allclose(samples[:, 1] - samples[:, 0], 0.25)


def test_users_who_count_more_weigh_more() -> None:
    totals, counts = np.array([[1.0], [9.0]]), np.array([[1.0], [3.0]])
    ratios = np.unique(resampled_ratios(totals, counts, seed=0).round(9))
    assert ratios.tolist() == [1.0, 2.5, 3.0]  # 2/2, 10/4 and 18/6


def test_a_draw_without_anything_to_count_has_no_value() -> None:
    totals, counts = np.array([[1.0, 0.0], [0.0, 0.0]]), np.array([[1.0, 0.0], [0.0, 0.0]])
    samples = resampled_ratios(totals, counts, seed=0)
    assert np.isnan(samples[:, 0]).mean() == pytest.approx(0.25, abs=0.05)
    lows, highs = interval(samples)
    assert lows[0] == highs[0] == 1.0
    assert np.isnan([lows[1], highs[1]]).all()


def test_the_same_seed_gives_the_same_interval() -> None:
    values = np.random.default_rng(4).random((30, 2))
    first, again, other = (
        resampled_ratios(values, np.ones_like(values), seed=seed) for seed in (5, 5, 6)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
