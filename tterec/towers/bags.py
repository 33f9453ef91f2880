"""Weighted sums of embeddings, bag by bag, with a gradient that needs no sorting."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


class Holders(NamedTuple):
    """`ragged.Holders` of a batch, as tensors."""

    lists: Tensor
    starts: Tensor
    places: Tensor


def sums(
    embeddings: Tensor, weights: Tensor, members: Tensor, starts: Tensor, holders: Holders | None
) -> Tensor:
    """Σ weight · embedding of each bag's members: (bags, d).

    members: int64 (n,), numbers of embeddings (e, d), those of bag i from starts[i] on, with
    weights (n,). With `holders`, the bags that hold each embedding, the result can be
    differentiated by embeddings and weights.
    """
    if holders is None:
        return functional.embedding_bag(
            members, embeddings, starts, mode="sum", per_sample_weights=weights
        )
    found: Tensor = _Sums.apply(embeddings, weights, members, starts, holders)  # type: ignore[no-untyped-call]
    return found


class _Sums(torch.autograd.Function):
    """torch's gradient of embedding_bag sorts the members and adds row by row. Knowing the bags
    that hold an embedding, its gradient is such a sum itself. Measured with 70,000 tokens of 8,800
    items on one thread: 12.5 ms by torch, 2.2 ms here, counting the holders included.
    """

    @staticmethod
    def forward(  # noqa: PLR0917 (torch passes them by place)
        ctx: Any,
        embeddings: Tensor,
        weights: Tensor,
        members: Tensor,
        starts: Tensor,
        holders: Holders,
    ) -> Tensor:
        ctx.save_for_backward(embeddings, weights, members, starts, *holders)
        return sums(embeddings, weights, members, starts, None)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        gradient = gradient.contiguous()
        embeddings, weights, members, starts, *parts = ctx.saved_tensors
        holders = Holders(*parts)
        by_embedding = sums(
            gradient, weights.index_select(0, holders.places), holders.lists, holders.starts, None
        )
        by_weight = None
        if ctx.needs_input_grad[1]:
            lengths = torch.diff(starts, append=starts.new_tensor([len(members)]))
            bags = torch.repeat_interleave(lengths, output_size=len(members))
            products = embeddings.index_select(0, members) * gradient.index_select(0, bags)
            by_weight = products.sum(dim=1)
        return by_embedding, by_weight, None, None, None
