"""The objectives on numbers computed by hand."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tterec.towers import losses
from tterec.towers.mining import ALL, Mining

USERS = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
CANDIDATES = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
# Scores: user 0: 1, 0, 1; user 1: 0, 2, 2.

Objective = Callable[..., Tensor]


def loss_of(
    objective: Objective,
    users: Tensor = USERS,
    *,
    targets: tuple[int, int] = (0, 1),
    known: list[list[bool]] | None = None,
    log_q: tuple[float, float, float] = (0, 0, 0),
    weights: tuple[float, float] = (1, 1),
    **further: object,
) -> float:
    scene = losses.Scene(
        targets=torch.tensor(targets),
        log_q=torch.tensor(log_q, dtype=users.dtype),
        known=torch.tensor(known or [[False] * 3] * 2),
        runs=torch.tensor([0, 1]),
        weights=torch.tensor(weights, dtype=users.dtype),
    )
    return objective(users, CANDIDATES, scene, **further).item()


def entropy(own: float, *others: float) -> float:
    return math.log(sum(map(math.exp, (own, *others)))) - own


def behind(difference: float) -> float:
    """-log sigmoid of own score - other score."""
    return math.log(1 + math.exp(-difference))


def test_softmax_is_the_mean_cross_entropy() -> None:
    expected = (entropy(1, 0, 1) + entropy(2, 0, 2)) / 2
    assert loss_of(losses.softmax) == pytest.approx(expected)


def test_items_that_the_user_has_met_are_no_negatives_but_the_target_counts() -> None:
    known = [[True, False, True], [False, True, False]]
    expected = (entropy(1, 0) + entropy(2, 0, 2)) / 2
    assert loss_of(losses.softmax, known=known) == pytest.approx(expected)
    ranked = (behind(1) + (behind(2) + behind(0)) / 2) / 2
    assert loss_of(losses.bpr, known=known) == pytest.approx(ranked)
    short = (0.2 + (0 + 1.2) / 2) / 2
    assert loss_of(losses.triplet, known=known, margin=1.2, mining=ALL) == pytest.approx(short)


def test_the_sampling_probability_is_taken_off_the_logits() -> None:
    log_q = (math.log(0.5), math.log(0.2), math.log(0.1))
    first = entropy(1 - log_q[0], 0 - log_q[1], 1 - log_q[2])
    second = entropy(2 - log_q[1], 0 - log_q[0], 2 - log_q[2])
    assert loss_of(losses.softmax, log_q=log_q) == pytest.approx((first + second) / 2)


def test_bpr_is_the_mean_over_negatives_that_uniform_draws_would_have() -> None:
    log_q = (math.log(0.5), math.log(0.2), math.log(0.1))
    first = (behind(1) / 0.2 + behind(0) / 0.1) / (1 / 0.2 + 1 / 0.1)
    second = (behind(2) / 0.5 + behind(0) / 0.1) / (1 / 0.5 + 1 / 0.1)
    assert loss_of(losses.bpr, log_q=log_q) == pytest.approx((first + second) / 2)


def test_triplet_weighs_its_negatives_alike() -> None:
    log_q = (math.log(0.5), math.log(0.2), math.log(0.1))
    first = (0.2 / 0.2 + 1.2 / 0.1) / (1 / 0.2 + 1 / 0.1)
    second = 1.2 / 0.1 / (1 / 0.5 + 1 / 0.1)
    found = loss_of(losses.triplet, log_q=log_q, margin=1.2, mining=ALL)
    assert found == pytest.approx((first + second) / 2)


def test_triplet_asks_for_a_margin_and_no_more() -> None:
    first = ((1 - 1 + 0) + (1 - 1 + 1)) / 2
    second = ((1 - 2 + 0) * 0 + (1 - 2 + 2)) / 2
    found = loss_of(losses.triplet, margin=1.0, mining=ALL)
    assert found == pytest.approx((first + second) / 2)
    assert loss_of(losses.triplet, margin=0.0, mining=ALL) == 0.0


def test_weights_make_a_weighted_mean() -> None:
    expected = (3 * entropy(1, 0, 1) + entropy(2, 0, 2)) / 4
    assert loss_of(losses.softmax, weights=(3, 1)) == pytest.approx(expected)
    expected = (3 * (behind(1) + behind(0)) + behind(2) + behind(0)) / 8
    assert loss_of(losses.bpr, weights=(3, 1)) == pytest.approx(expected)


def triplet(users: Tensor, candidates: Tensor, scene: losses.Scene, mining: Mining = ALL) -> Tensor:
    return losses.triplet(users, candidates, scene, margin=0.3, mining=mining)


OBJECTIVES = pytest.mark.parametrize("objective", [losses.softmax, losses.bpr, triplet])


@OBJECTIVES
def test_a_target_without_negatives_costs_nothing(objective: Objective) -> None:
    known = [[False, True, True], [True, False, True]]
    assert loss_of(objective, known=known) == pytest.approx(0.0)


@OBJECTIVES
def test_weights_of_nothing_but_zero_give_no_nan(objective: Objective) -> None:
    assert loss_of(objective, weights=(0, 0)) == 0.0


@OBJECTIVES
def test_hopeless_targets_have_a_finite_loss(objective: Objective) -> None:
    assert math.isfinite(loss_of(objective, users=USERS * 1000, targets=(1, 0)))


def test_the_hardest_negatives_alone_can_count() -> None:
    hard = Mining("hard", 1, 0.0)
    expected = (entropy(1, 1) + entropy(2, 2)) / 2
    assert loss_of(losses.softmax, mining=hard) == pytest.approx(expected)
    semi_hard = Mining("semi-hard", 1, 0.5)
    expected = (behind(1) + behind(2)) / 2
    assert loss_of(losses.bpr, mining=semi_hard) == pytest.approx(expected)


def naive(
    objective: Objective, users: Tensor, candidates: Tensor, scene: losses.Scene, mining: Mining
) -> Tensor:
    """The same losses interaction by interaction, for autograd to differentiate."""
    total = torch.zeros((), dtype=users.dtype)
    for row, target in enumerate(scene.targets.tolist()):
        scores = candidates @ users[row]
        own = scores[target]
        others = [
            column
            for column in range(len(candidates))
            if column != target and not scene.known[scene.runs[row], column]
        ]
        if mining.kind == "semi-hard" and others:
            easiest = min(others, key=lambda column: scores[column].item())
            below = [c for c in others if scores[c] <= own - mining.gap]
            others = below or [easiest]
        if mining.kind != "none":
            others = sorted(others, key=lambda column: -scores[column].item())[: mining.most]
        if not others:
            continue
        if objective is losses.softmax:
            logits = (scores - scene.log_q)[[target, *others]]
            loss = torch.logsumexp(logits, 0) - logits[0]
            total = total + scene.weights[row] * loss
            continue
        shares = torch.softmax(-scene.log_q[others], 0)
        if objective is losses.bpr:
            each = -torch.nn.functional.logsigmoid(own - scores[others])
        else:
            each = (0.3 - own + scores[others]).clamp(min=0)
        total = total + scene.weights[row] * (shares * each).sum()
    return total / scene.weights.sum()


@OBJECTIVES
@pytest.mark.parametrize(
    "mining", [ALL, Mining("hard", 3, 0.0), Mining("semi-hard", 3, 0.2)], ids=lambda m: m.kind
)
def test_loss_and_gradient_are_those_of_a_naive_computation(
    objective: Objective, mining: Mining
) -> None:
    generator = torch.Generator().manual_seed(0)
    users = torch.randn(350, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    candidates = torch.randn(9, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    scene = losses.Scene(
        targets=torch.randint(9, (350,), generator=generator),
        log_q=torch.randn(9, generator=generator, dtype=torch.float64),
        known=torch.rand(50, 9, generator=generator) < 0.3,
        runs=torch.arange(350) // 7,
        weights=torch.rand(350, generator=generator, dtype=torch.float64),
    )
    ours = objective(users, candidates, scene, mining=mining)
    expected = naive(objective, users, candidates, scene, mining)
    assert ours.item() == pytest.approx(expected.item())
    found = torch.autograd.grad(3 * ours, (users, candidates))
    wanted = torch.autograd.grad(3 * expected, (users, candidates))
    for mine, theirs in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("scale", [1.0, 30.0, 1000.0])
def test_softmax_neither_overflows_nor_vanishes(scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    users = (scale * torch.randn(40, 4, generator=generator)).requires_grad_()
    candidates = torch.randn(9, 4, generator=generator)
    targets = torch.randint(9, (40,), generator=generator)
    nothing = torch.zeros(40, 9, dtype=torch.bool)
    scene = losses.Scene(targets, torch.zeros(9), nothing, torch.arange(40), torch.ones(40))
    ours = losses.softmax(users, candidates, scene)
    expected = torch.nn.functional.cross_entropy(users @ candidates.T, targets)
    torch.testing.assert_close(ours, expected)
    torch.testing.assert_close(
        torch.autograd.grad(ours, users), torch.autograd.grad(expected, users), atol=1e-5, rtol=1e-4
    )


def test_the_known_mask_marks_the_pairs() -> None:
    mask = losses.known_mask((torch.tensor([0, 1, 1]), torch.tensor([2, 0, 2])), 2, 3)
    assert mask.tolist() == [[False, False, True], [True, False, True]]


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
