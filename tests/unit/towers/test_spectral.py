"""A warm start from singular vectors."""

import numpy as np
import pytest
import torch

from tests.unit.towers.worlds import interactions_of
from tterec.records import FeatureTable
from tterec.towers.histories import Histories, gather_histories
from tterec.towers.spectral import DAMPING, NORM, spectral_items

NOBODY = FeatureTable(np.array([], dtype=np.int64))


def histories_of(pairs: np.ndarray, items: int) -> Histories:
    return gather_histories(interactions_of(*pairs.T), NOBODY, FeatureTable(np.arange(items)), 200)


@pytest.fixture(scope="module")
def histories() -> Histories:
    rng = np.random.default_rng(0)
    return histories_of(np.unique(rng.integers(0, (30, 20), size=(200, 2)), axis=0), 21)


def test_products_of_embeddings_are_those_of_the_best_approximation(histories: Histories) -> None:
    matrix = np.zeros((histories.users, 21))
    matrix[histories.owners, histories.items] = 1.0
    matrix /= np.maximum(matrix.sum(axis=0), 1.0) ** DAMPING
    _, values, vectors = np.linalg.svd(matrix)
    exact = (values[:5, None] * vectors[:5]).T
    found = spectral_items(histories, torch.zeros(21, 5), seed=0).double().numpy()
    ratio = (found @ found.T)[0, 0] / (exact @ exact.T)[0, 0]
    assert found @ found.T == pytest.approx(ratio * exact @ exact.T, abs=1e-5)
    assert np.sqrt(np.square(found[:20]).sum(axis=1).mean()) == pytest.approx(NORM)


def test_the_same_seed_gives_the_same_embeddings(histories: Histories) -> None:
    first, again = (spectral_items(histories, torch.zeros(21, 5), seed=3) for _ in range(2))
    assert torch.equal(first, again)


def test_items_that_nobody_met_and_dimensions_that_are_too_many_keep_the_noise(
    histories: Histories,
) -> None:
    noise = torch.randn(21, 40, generator=torch.Generator().manual_seed(0))
    found = spectral_items(histories, noise, seed=0)
    assert torch.equal(found[20], noise[20])
    assert torch.equal(found[:, 20:], noise[:, 20:])
    assert not torch.equal(found[:20, :20], noise[:20, :20])


def test_one_user_or_one_item_is_too_little_for_a_start() -> None:
    noise = torch.ones(3, 4)
    assert torch.equal(spectral_items(histories_of(np.array([[1, 0], [1, 1]]), 3), noise, 0), noise)
