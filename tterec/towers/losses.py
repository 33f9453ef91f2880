"""The objectives, as plain functions of tensors."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from tterec.towers.mining import ALL, Mining, mine

SAFE_BITS = 90.0
"""Sums of powers of two of scores of at most this magnitude neither overflow nor vanish in float32.
Only beyond is each row's greatest score looked for and taken off: without these two passes over the
scores the loss and its gradient take 32 ms where they took 38 (2,048 by 2,850, one thread)."""


class Scene(NamedTuple):
    """b interactions and the c candidates that each is scored against, but for the vectors.

    targets: int64 (b,), each interaction's own column among the candidates. log_q: (c,), log of
    how often the batch's sampling draws each candidate; zeros for the whole catalogue. known: bool
    (r, c), candidates that a run's user has met: no negatives, but for the target itself; runs:
    int64 (b,), each interaction's run, ascending. weights: (b,), of each interaction in the mean.
    """

    targets: Tensor
    log_q: Tensor
    known: Tensor
    runs: Tensor
    weights: Tensor


def softmax(users: Tensor, candidates: Tensor, scene: Scene, mining: Mining = ALL) -> Tensor:
    """Weighted mean cross-entropy of each target among the candidates, in nats: a scalar.

    users: (b, d), divided by the temperature, and candidates: (c, d). log_q is subtracted from the
    logits, so that frequent items are not punished for being frequent (Bengio & Senécal 2008; Yi
    et al. 2019); candidates that are the whole catalogue make it the full softmax.
    """

    # Scores in bits: on a CPU torch's exp takes three times as long where some are exp(-inf).
    bits = math.log(2)
    users, log_q = users / bits, scene.log_q / bits
    mining = mining._replace(gap=mining.gap / bits)
    mined = mining.kind != "none"  # by what scores high before log_q is taken off
    safe = _most(users.detach(), candidates.detach(), log_q) < SAFE_BITS

    def rows(scores: Tensor, columns: Tensor) -> Rows:
        if mined:
            excluded = mine(scores, columns, scores.isneginf(), mining)
            scores = scores.sub_(log_q).masked_fill_(excluded, -math.inf)
        if not safe:
            scores -= scores.amax(dim=1, keepdim=True)
        own = scores.gather(1, columns)
        odds = scores.exp2_()
        total = odds.sum(dim=1, keepdim=True)
        losses = (total.log2() - own)[:, 0] * bits
        return Rows(losses, odds.scatter_add_(1, columns, -total), bits / total)

    return _blockwise(users, candidates, scene, rows, torch.zeros_like(log_q) if mined else -log_q)


def _most(users: Tensor, candidates: Tensor, log_q: Tensor) -> float:
    """What no score's magnitude can exceed, by Cauchy and Schwarz."""
    norms = [torch.linalg.vector_norm(some, dim=1).amax() for some in (users, candidates)]
    return float(norms[0] * norms[1] + log_q.abs().amax())


def bpr(users: Tensor, candidates: Tensor, scene: Scene, mining: Mining = ALL) -> Tensor:
    """Weighted mean of -log sigmoid(own score - negative's score), in nats: a scalar.

    Arguments as of softmax. Rendle et al. (2009) draw one negative uniformly; here every candidate
    is one, weighted by 1 / q: the mean that uniform draws have, without their noise.
    """

    def rows(scores: Tensor, columns: Tensor) -> Rows:
        excluded = mine(scores, columns, scores.isneginf(), mining)
        shares = _shares(excluded, columns, scene.log_q)
        behind = scores - scores.gather(1, columns)
        losses = (shares * functional.softplus(behind)).sum(dim=1)
        return _against_own(losses, shares * torch.sigmoid(behind), columns)

    return _blockwise(users, candidates, scene, rows)


def triplet(
    users: Tensor, candidates: Tensor, scene: Scene, *, margin: float, mining: Mining
) -> Tensor:
    """Weighted mean of max(0, margin - own score + negative's score): a scalar.

    users: (b, d) and candidates: (c, d), of norm 1. The negatives are those that are mined,
    weighted by 1 / q as with bpr: each as much as the others, popular items were pushed away
    (NDCG@20 .238 where popularity has .171 on planted tastes, and .283 with weights).
    """

    def rows(scores: Tensor, columns: Tensor) -> Rows:
        excluded = mine(scores, columns, scores.isneginf(), mining)
        shares = _shares(excluded, columns, scene.log_q)
        short = scores - scores.gather(1, columns) + margin
        losses = (shares * short.clamp(min=0)).sum(dim=1)
        return _against_own(losses, shares * (short > 0), columns)

    return _blockwise(users, candidates, scene, rows)


class Rows(NamedTuple):
    """Losses (n,) of n interactions, and their gradients by the scores: (n, c), times factors
    (n, 1)."""

    losses: Tensor
    gradients: Tensor
    factors: Tensor | float = 1.0


RowLosses = Callable[[Tensor, Tensor], Rows]
"""From scores (n, c), -inf of what is no negative, and the targets' columns (n, 1). May write over
the scores."""


def _shares(excluded: Tensor, columns: Tensor, log_q: Tensor) -> Tensor:
    """Each negative's share 1 / q of the mean over its row's: (n, c); zeros where it has none."""
    barred = excluded.scatter(1, columns, True)
    shares = torch.softmax((-log_q).expand(barred.shape).masked_fill(barred, -math.inf), dim=1)
    return shares.nan_to_num_(0.0)


def _against_own(losses: Tensor, gradients: Tensor, columns: Tensor) -> Rows:
    """What raises a negative's loss lowers the target's."""
    return Rows(losses, gradients.scatter_(1, columns, -gradients.sum(dim=1, keepdim=True)))


def _blockwise(
    users: Tensor,
    candidates: Tensor,
    scene: Scene,
    rows: RowLosses,
    added: Tensor | None = None,
) -> Tensor:
    """Weighted mean of the rows' losses. added: (c,), to each candidate's scores."""
    scene = scene._replace(weights=scene.weights / scene.weights.sum().clamp(min=1e-6))
    if added is None:
        added = torch.zeros_like(scene.log_q)
    loss: Tensor = _Blockwise.apply(users, candidates, scene, rows, added)  # type: ignore[no-untyped-call]
    return loss


class _Blockwise(torch.autograd.Function):
    """Σ weight · loss, with the gradient computed on the way, a block of rows at a time.

    The (b, c) scores of a whole batch leave the cache at every pass over them; autograd makes
    twelve. What is added to scores, and what bars known candidates, is the same for all rows of a
    run, and the product is added to it: no pass of their own. Measured with softmax, 2,048 by 2,850
    on one thread: the three products take 22 ms, all of it 32 ms.
    """

    ROWS = 256
    PAIRS = 2**24
    """Fewer rows where there are many candidates: 64 MB of scores."""

    @staticmethod
    def forward(  # noqa: PLR0917 (torch passes them by place)
        ctx: Any,
        users: Tensor,
        candidates: Tensor,
        scene: Scene,
        rows: RowLosses,
        added: Tensor,
    ) -> Tensor:
        by_user = torch.empty_like(users)
        by_candidate = torch.zeros_like(candidates)
        owns = (users * candidates.index_select(0, scene.targets)).sum(dim=1)
        owns += added.index_select(0, scene.targets)
        at_once = max(_Blockwise.PAIRS // len(candidates), 1)
        if users.device.type == "cpu":  # others have no such cache
            at_once = min(at_once, _Blockwise.ROWS)
        memory = users.new_empty(min(at_once, len(users)), len(candidates))
        losses = []
        # Cut once: between products, which empty the caches, a slice takes some 20 µs.
        by_row = (scene.targets[:, None], scene.weights[:, None], owns[:, None])
        cut = zip(
            *(torch.split(whole, at_once) for whole in (*by_row, scene.runs, users, by_user)),
            _first_and_last(scene.runs, at_once),
            strict=True,
        )
        for columns, weights, own, runs, some, by_some, (first, last) in cut:
            barred = torch.where(scene.known[first : last + 1], -math.inf, added)
            scores = memory[: len(columns)]
            torch.index_select(barred, 0, runs - first, out=scores)
            _add_product(scores, some, candidates.T)
            found = rows(scores.scatter_(1, columns, own), columns)
            losses.append(found.losses)
            factors = weights * found.factors
            torch.mul(factors, found.gradients @ candidates, out=by_some)
            _add_product(by_candidate, found.gradients.T, factors * some)
        ctx.save_for_backward(by_user, by_candidate)
        return torch.dot(torch.cat(losses), scene.weights)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        by_user, by_candidate = ctx.saved_tensors
        (gradient,) = gradients
        return gradient * by_user, gradient * by_candidate, None, None, None


def _first_and_last(runs: Tensor, at_once: int) -> list[list[int]]:
    """The first and the last run of each so many interactions, in one copy from the device."""
    firsts = torch.arange(0, len(runs), at_once, device=runs.device)
    lasts = (firsts + at_once - 1).clamp(max=len(runs) - 1)
    found: list[list[int]] = runs[torch.stack([firsts, lasts], dim=1)].tolist()
    return found


def _add_product(into: Tensor, left: Tensor, right: Tensor) -> None:
    """into += left · right; the product in another type under autocast, which addmm_ ignores."""
    if torch.is_autocast_enabled(into.device.type):
        into += left @ right
    else:
        into.addmm_(left, right)


def known_mask(known: tuple[Tensor, Tensor], runs: int, candidates: int) -> Tensor:
    """Which candidates each run's user has met: bool (r, c), from (run, candidate) pairs."""
    met = torch.zeros(runs, candidates, dtype=torch.bool, device=known[0].device)
    met[known[0], known[1]] = True
    return met


def squared_error(predictions: Tensor, ratings: Tensor) -> Tensor:
    """(prediction - rating)² of each rated interaction: (b,)."""
    return (predictions - ratings) ** 2


def regulariser(parameters: Iterable[Tensor], kind: str) -> Tensor:
    """J of a tower: the sum of its parameters' magnitudes (l1) or squares (l2), a scalar."""
    power = {"l1": torch.abs, "l2": torch.square}[kind]
    return torch.stack([power(parameter).sum() for parameter in parameters]).sum()


def rating_weights(ratings: Tensor, power: float) -> Tensor:
    """How much each interaction counts in the mean loss: (rating / 10) ^ power, 1 where unrated."""
    weights = (ratings / 10) ** power
    return torch.where(torch.isnan(ratings), torch.ones_like(weights), weights)
