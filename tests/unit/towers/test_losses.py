"""The objectives on numbers computed by hand."""

import math

import pytest
import torch
from torch import Tensor

from tterec.towers import losses

USERS = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
CANDIDATES = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
# Logits: user 0: 1, 0, 1; user 1: 0, 2, 2.


def softmax_loss(
    users: Tensor = USERS,
    *,
    targets: tuple[int, int] = (0, 1),
    known: list[list[bool]] | None = None,
    log_q: tuple[float, float, float] = (0, 0, 0),
    weights: tuple[float, float] = (1, 1),
) -> Tensor:
    return losses.sampled_softmax(
        users,
        CANDIDATES,
        torch.tensor(targets),
        log_q=torch.tensor(log_q, dtype=users.dtype),
        known=torch.tensor(known or [[False] * 3] * 2),
        runs=torch.tensor([0, 1]),
        weights=torch.tensor(weights, dtype=users.dtype),
    )


def entropy(own: float, *others: float) -> float:
    return math.log(sum(map(math.exp, (own, *others)))) - own


def test_softmax_is_the_mean_cross_entropy() -> None:
    expected = (entropy(1, 0, 1) + entropy(2, 0, 2)) / 2
    assert softmax_loss().item() == pytest.approx(expected)


def test_items_that_the_user_has_met_are_no_negatives_but_the_target_counts() -> None:
    known = [[True, False, True], [False, True, False]]
    expected = (entropy(1, 0) + entropy(2, 0, 2)) / 2
    assert softmax_loss(known=known).item() == pytest.approx(expected)


def test_the_sampling_probability_is_taken_off_the_logits() -> None:
    log_q = (math.log(0.5), math.log(0.2), math.log(0.1))
    first = entropy(1 - log_q[0], 0 - log_q[1], 1 - log_q[2])
    second = entropy(2 - log_q[1], 0 - log_q[0], 2 - log_q[2])
    assert softmax_loss(log_q=log_q).item() == pytest.approx((first + second) / 2)


def test_weights_make_a_weighted_mean() -> None:
    expected = (3 * entropy(1, 0, 1) + entropy(2, 0, 2)) / 4
    assert softmax_loss(weights=(3, 1)).item() == pytest.approx(expected)


def test_a_target_without_negatives_costs_nothing() -> None:
    known = [[False, True, True], [True, False, True]]
    assert softmax_loss(known=known).item() == pytest.approx(0.0)


def test_weights_of_nothing_but_zero_give_no_nan() -> None:
    assert softmax_loss(weights=(0, 0)).item() == 0.0


def test_hopeless_targets_have_a_finite_loss() -> None:
    assert math.isfinite(softmax_loss(users=USERS * 1000, targets=(1, 0)).item())


def test_the_gradient_is_that_of_the_loss() -> None:
    generator = torch.Generator().manual_seed(0)
    users = torch.randn(700, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    candidates = torch.randn(9, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(9, (700,), generator=generator)
    runs = torch.arange(700) // 7
    known = torch.rand(100, 9, generator=generator) < 0.3
    log_q = torch.randn(9, generator=generator, dtype=torch.float64)
    weights = torch.rand(700, generator=generator, dtype=torch.float64)
    ours = losses.sampled_softmax(
        users, candidates, targets, log_q=log_q, known=known, runs=runs, weights=weights
    )
    excluded = known[runs].scatter(1, targets[:, None], False)
    logits = (users @ candidates.T - log_q).masked_fill(excluded, -math.inf)
    each = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    expected = (weights * each).sum() / weights.sum()
    assert ours.item() == pytest.approx(expected.item())
    found = torch.autograd.grad(3 * ours, (users, candidates))
    wanted = torch.autograd.grad(3 * expected, (users, candidates))
    for mine, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_the_known_mask_marks_the_pairs() -> None:
    mask = losses.known_mask((torch.tensor([0, 1, 1]), torch.tensor([2, 0, 2])), 2, 3)
    assert mask.tolist() == [[False, False, True], [True, False, True]]


def test_expected_draws_add_positives_and_uniform_negatives() -> None:
    shares = torch.tensor([0.25, 0.0])
    log_q = losses.log_sampling_probability(shares, 8, 5, 100)
    assert log_q.exp().tolist() == pytest.approx([8 * 0.25 + 0.05, 0.05])


def test_squared_error_by_hand() -> None:
    errors = losses.squared_error(torch.tensor([1.0, 5.0]), torch.tensor([3.0, 4.0]))
    assert errors.tolist() == [4.0, 1.0]


def test_the_regulariser_sums_over_all_parameters_of_a_tower() -> None:
    tower = [torch.tensor([[1.0, -2.0]]), torch.tensor([-3.0])]
    assert losses.regulariser(tower, "l1").item() == 6.0
    assert losses.regulariser(tower, "l2").item() == 14.0


def test_rating_weights() -> None:
    ratings = torch.tensor([10.0, 5.0, 0.0, math.nan])
    assert losses.rating_weights(ratings, 0.0).tolist() == [1.0, 1.0, 1.0, 1.0]
    assert losses.rating_weights(ratings, 2.0).tolist() == [1.0, 0.25, 0.0, 1.0]
