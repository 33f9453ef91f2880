"""The objectives, as plain functions of tensors."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor


def sampled_softmax(
    users: Tensor,
    candidates: Tensor,
    targets: Tensor,
    *,
    log_q: Tensor,
    known: Tensor,
    runs: Tensor,
    weights: Tensor,
) -> Tensor:
    """Weighted mean cross-entropy of each target among a batch's candidates, in nats: a scalar.

    users: (b, d), divided by the temperature, and candidates: (c, d). targets: int64 (b,),
    columns of the candidates. log_q: (c,), log of the probability that the batch's sampling draws
    each candidate; subtracted from its logit, so that frequent items are not punished for being
    frequent (Bengio & Senécal 2008; Yi et al. 2019). known: bool (r, c), candidates that a run's
    user has met: no negatives, but for the target itself; runs: int64 (b,), each user's run.
    weights: (b,), of each interaction in the mean.
    """
    shares = weights / weights.sum().clamp(min=1e-6)
    rest = _Fixed(targets, -log_q, known, runs, shares)
    loss: Tensor = _BlockwiseCrossEntropy.apply(users, candidates, rest)  # type: ignore[no-untyped-call]
    return loss


class _Fixed(NamedTuple):
    """What the loss has no gradient by; shapes as in sampled_softmax."""

    targets: Tensor
    biases: Tensor
    known: Tensor
    runs: Tensor
    shares: Tensor


class _BlockwiseCrossEntropy(torch.autograd.Function):
    """Σ share · cross-entropy, with the gradient computed on the way, a block of rows at a time.

    The (b, c) logits of a whole batch leave the cache at every pass over them; autograd makes
    twelve. Measured at 4,096 by 4,500 on one thread: .46 s by autograd, .15 s here.
    """

    ROWS = 256

    @staticmethod
    def forward(ctx: Any, users: Tensor, candidates: Tensor, fixed: _Fixed) -> Tensor:
        targets, biases, known, runs, shares = fixed
        by_user = torch.empty_like(users)
        by_candidate = torch.zeros_like(candidates)
        loss = torch.zeros((), dtype=users.dtype, device=users.device)
        least = torch.finfo(users.dtype).tiny
        for start in range(0, len(users), _BlockwiseCrossEntropy.ROWS):
            block = slice(start, start + _BlockwiseCrossEntropy.ROWS)
            columns, share = targets[block, None], shares[block, None]
            excluded = known.index_select(0, runs[block]).scatter_(1, columns, False)
            logits = torch.addmm(biases, users[block], candidates.T)
            logits.masked_fill_(excluded, -math.inf)
            probabilities = torch.softmax(logits, dim=1)
            own = probabilities.gather(1, columns)
            loss -= (share * own.clamp(min=least).log()).sum()
            probabilities.scatter_(1, columns, own - 1)
            by_user[block] = share * (probabilities @ candidates)
            by_candidate.addmm_(probabilities.T, share * users[block])
        ctx.save_for_backward(by_user, by_candidate)
        return loss

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        by_user, by_candidate = ctx.saved_tensors
        (gradient,) = gradients
        return gradient * by_user, gradient * by_candidate, None


def known_mask(known: tuple[Tensor, Tensor], runs: int, candidates: int) -> Tensor:
    """Which candidates each run's user has met: bool (r, c), from (run, candidate) pairs."""
    met = torch.zeros(runs, candidates, dtype=torch.bool, device=known[0].device)
    met[known[0], known[1]] = True
    return met


def log_sampling_probability(shares: Tensor, draws: int, uniform: int, items: int) -> Tensor:
    """Log of each candidate's expected number of draws into a batch: (c,).

    shares: (c,), each candidate's share of all interactions, of which `draws` come in a batch;
    beside these, `uniform` of all `items` are drawn with equal chances.
    """
    return torch.log(draws * shares + uniform / items)


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
