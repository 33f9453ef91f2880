"""The objectives, as plain functions of tensors."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional


def sampled_softmax(
    users: Tensor,
    candidates: Tensor,
    targets: Tensor,
    known: Tensor,
    log_q: Tensor,
    scale: Tensor,
) -> Tensor:
    """Cross-entropy of each target among a batch's candidates: (b,), in nats.

    users: (b, d) and candidates: (c, d), unit vectors. targets: int64 (b,), columns of the
    candidates. known: bool (b, c), candidates that the user has met: no negatives, but for the
    target itself. log_q: (c,), log of the probability that the batch's sampling draws each
    candidate; subtracted, so that frequent items are not punished for being frequent (Bengio &
    Senécal 2008; Yi et al. 2019). scale: scalar, one over the temperature.
    """
    logits = scale * (users @ candidates.T) - log_q
    excluded = known.scatter(1, targets[:, None], False)
    return functional.cross_entropy(
        logits.masked_fill(excluded, -math.inf), targets, reduction="none"
    )


def known_mask(
    known: tuple[Tensor, Tensor], runs: Tensor, run_count: int, candidates: int
) -> Tensor:
    """Which candidates each interaction's user has met: bool (b, c).

    known: the (run, candidate) pairs; runs: int64 (b,), each interaction's run.
    """
    met = torch.zeros(run_count, candidates, dtype=torch.bool, device=runs.device)
    met[known[0], known[1]] = True
    return met.index_select(0, runs)


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
