"""Sums of embeddings, and their gradients without sorting."""

import numpy as np
import torch
from torch.nn import functional

from tterec.towers import ragged
from tterec.towers.bags import Holders, sums


def test_holders_by_hand() -> None:
    # Lists: [2, 0], [], [2, 2, 3]; nobody holds 1.
    found = ragged.holders(np.array([2, 0, 2, 2, 3]), np.array([0, 2, 2]), 4)
    assert found.lists.tolist() == [0, 0, 2, 2, 2]
    assert found.starts.tolist() == [0, 1, 1, 4]
    assert found.places.tolist() == [1, 0, 2, 3, 4]


def test_sums_and_gradients_are_those_of_torch() -> None:
    rng = np.random.default_rng(0)
    starts = np.array([0, 5, 5, 12, 40])  # the second bag is empty
    members = rng.integers(9, size=50)  # of ten embeddings: the last is in no bag
    given = ragged.holders(members, starts, 10)
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(10, 4, generator=generator, requires_grad=True)
    weights = torch.randn(50, generator=generator, requires_grad=True)
    bags = torch.from_numpy(members), torch.from_numpy(starts)
    ours = sums(table, weights, *bags, Holders(*map(torch.from_numpy, given)))
    theirs = functional.embedding_bag(
        bags[0], table, bags[1], mode="sum", per_sample_weights=weights
    )
    torch.testing.assert_close(ours, theirs)
    by = torch.randn(5, 4, generator=generator)
    for mine, wanted in zip(
        torch.autograd.grad(ours, (table, weights), by),
        torch.autograd.grad(theirs, (table, weights), by),
        strict=True,
    ):
        torch.testing.assert_close(mine, wanted)
