"""The two towers as functions of their parameters.

Both are linear in features, and the user tower also in history vectors, so that Postgres can
compute a user's vector from rows. With b the learned vector that all items share, an item is

    z = gate · own embedding + Σ token embeddings + dense numbers · W        its core
    item embedding = b + z (divided by its norm, with softmax)
    history vector = h₀ + z · M

and a user is profile + (1/√n) Σ w(rating) · history vector (divided by its norm, with softmax),
profile = p₀ + Σ token embeddings + dense numbers · W.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from tterec.records import UNRATED_BUCKET
from tterec.towers.bags import Holders, sums

TABLES = ("item_ids", "item_tokens", "user_tokens")
"""Parameters of which a batch reads only some rows."""
ITEM_TOWER = ("item_ids", "item_tokens", "item_dense", "item_base")
USER_TOWER = (
    "user_tokens",
    "user_dense",
    "user_base",
    "history_map",
    "history_base",
    "history_weights",
)
DECAYED = ("item_ids", "item_tokens", "item_dense", "user_tokens", "user_dense")
"""Parameters under weight decay: those that tell rows apart, not what all rows share."""

NOISE = 0.1
"""Norm of items' own embeddings at the start."""
NOISE_MSE = 0.5
"""With mse, that of all embeddings: near zero a product of two embeddings hardly moves. Started
from .1 and zero, training on generated tastes stands still for four epochs, and early stopping
ends it at RMSE 1.72; from .5 it reaches 1.0."""

Parameters = dict[str, Tensor]


@dataclass(frozen=True)
class Shape:
    """What decides the parameters' shapes."""

    items: int
    item_tokens: int
    item_dense: int
    user_tokens: int
    user_dense: int
    dim: int


def initial_shapes(shape: Shape) -> dict[str, tuple[int, ...]]:
    """Every parameter's shape, by name."""
    d = shape.dim
    return {
        "item_ids": (shape.items, d),
        "item_tokens": (shape.item_tokens, d),
        "item_dense": (shape.item_dense, d),
        "item_base": (d,),
        "user_tokens": (shape.user_tokens, d),
        "user_dense": (shape.user_dense, d),
        "user_base": (d,),
        "history_map": (d, d),
        "history_base": (d,),
        "history_weights": (UNRATED_BUCKET + 1,),
        "log_scale": (),
    }


def initial_parameters(
    shape: Shape, *, objective: str, temperature: float, mean_rating: float, seed: int
) -> Parameters:
    """Fresh parameters, float32, by name; the same for the same seed.

    Items' own embeddings start as small noise: something must tell items apart where there is no
    content. With softmax, features start without effect. With mse, the shared vectors start so
    that the mean prediction is the mean rating, and histories so that high ratings raise, low
    ones lower it.
    """
    generator = torch.Generator().manual_seed(seed % 2**63)
    d = shape.dim
    parameters = {name: torch.zeros(size) for name, size in initial_shapes(shape).items()}
    for name in ("item_ids", "item_base", "user_base"):
        parameters[name].normal_(std=NOISE / math.sqrt(d), generator=generator)
    parameters["history_map"] = torch.eye(d)
    parameters["history_weights"].fill_(1.0)
    parameters["log_scale"].fill_(-math.log(temperature))
    if objective == "mse":
        for name in ("item_ids", "item_tokens", "user_tokens"):
            parameters[name].normal_(std=NOISE_MSE / math.sqrt(d), generator=generator)
        shared = torch.full((d,), math.sqrt(max(mean_rating, 1e-3) / d))
        buckets = torch.arange(UNRATED_BUCKET, dtype=torch.float32)
        parameters["item_base"] = shared.clone()
        parameters["user_base"] = shared.clone()
        parameters["history_weights"][:UNRATED_BUCKET] = (buckets - mean_rating) / 5
        parameters["history_weights"][UNRATED_BUCKET] = 0.0
    return parameters


class Bags(NamedTuple):
    """Features of n rows: tokens int64 (t,), numbers of embeddings, those of row i from offsets[i]
    on, with weights (t,); dense (n, width). holders: which rows hold each token, to learn."""

    tokens: Tensor
    offsets: Tensor
    weights: Tensor
    dense: Tensor
    holders: Holders | None = None


def feature_sums(bags: Bags, embeddings: Tensor, into: Tensor) -> Tensor:
    """Σ weight · token embedding + dense · W of each row: (n, d). into: (width, d), W."""
    summed = bags.dense @ into
    if len(bags.tokens):
        summed = summed + sums(embeddings, bags.weights, bags.tokens, bags.offsets, bags.holders)
    return summed


def history_vectors(cores: Tensor, parameters: Parameters) -> Tensor:
    """Items' history vectors from their cores: (n, d)."""
    return cores @ parameters["history_map"] + parameters["history_base"]


class HistoryItems(NamedTuple):
    """r histories: items int64 (h,), numbers of cores, those of history i from offsets[i] on, with
    rating buckets int64 (h,); lengths int64 (r,). holders: which histories hold each item, to
    learn."""

    items: Tensor
    buckets: Tensor
    offsets: Tensor
    lengths: Tensor
    holders: Holders | None = None


class HistorySums(NamedTuple):
    """Σ w z (n, d), Σ w (n, 1) and n (n, 1) of each history."""

    cores: Tensor
    weights: Tensor
    lengths: Tensor


class Targets(NamedTuple):
    """b targets: their cores (b, d), rating buckets int64 (b,), and inside (b,): 1 where the
    target is in its user's history, else 0."""

    cores: Tensor
    buckets: Tensor
    inside: Tensor


def sum_histories(histories: HistoryItems, cores: Tensor, parameters: Parameters) -> HistorySums:
    """Weighted sums of histories' cores. The map to history vectors is linear: it comes later."""
    weights = _history_weights(histories.buckets, parameters)
    summed = sums(cores, weights, histories.items, histories.offsets, histories.holders)
    owners = torch.repeat_interleave(histories.lengths, output_size=len(weights))
    totals = weights.new_zeros(len(histories.lengths)).index_add(0, owners, weights)
    return HistorySums(summed, totals[:, None], histories.lengths.to(cores.dtype)[:, None])


def leave_one_out(
    summed: HistorySums, runs: Tensor, targets: Targets, parameters: Parameters
) -> HistorySums:
    """Each target's user's history without that target: sums of b histories.

    runs: int64 (b,), which of `summed` is each target's. A target left in its own history would
    teach the towers to copy.
    """
    own = (targets.inside * _history_weights(targets.buckets, parameters))[:, None]
    return HistorySums(
        summed.cores.index_select(0, runs) - own * targets.cores,
        summed.weights.index_select(0, runs) - own,
        summed.lengths.index_select(0, runs) - targets.inside[:, None],
    )


def user_vectors(profiles: Tensor, sums: HistorySums, parameters: Parameters) -> Tensor:
    """profile + (1/√n) Σ w(rating) · history vector: (b, d), not normalised."""
    taste = sums.cores @ parameters["history_map"] + sums.weights * parameters["history_base"]
    return profiles + taste / sums.lengths.clamp(min=1.0).sqrt()


def _history_weights(buckets: Tensor, parameters: Parameters) -> Tensor:
    """w of each bucket: (n,)."""
    # Of a vector torch adds the gradient up in one pass; of rows of width 1 it sorts them first.
    return parameters["history_weights"].index_select(0, buckets)


def unit(vectors: Tensor) -> Tensor:
    """The vectors divided by their norms; a zero vector stays one."""
    return functional.normalize(vectors, dim=1, eps=1e-12)
