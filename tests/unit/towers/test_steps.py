"""One step of learning."""

import numpy as np
import pytest
import torch

from tests.unit.towers.test_batches import ITEM_TABLE, ITEMS, USER_TABLE, batches_of, histories
from tterec.config import TrainingConfig
from tterec.errors import TrainingError
from tterec.towers import model
from tterec.towers.features import Features
from tterec.towers.histories import Histories
from tterec.towers.steps import Learner

__all__ = ["histories"]


def learner_of(histories: Histories, objective: str = "softmax") -> Learner:
    items, users = Features.fit(ITEM_TABLE), Features.fit(USER_TABLE)
    shape = model.Shape(
        items=ITEMS,
        item_tokens=items.token_count,
        item_dense=items.dense_width,
        user_tokens=users.token_count,
        user_dense=users.dense_width,
        dim=8,
    )
    parameters = model.initial_parameters(
        shape, objective=objective, temperature=0.1, mean_rating=5.5, seed=0
    )
    counts = np.bincount(histories.items, minlength=ITEMS)
    config = TrainingConfig(objective=objective, dim=8, gamma=0.0)
    return Learner(parameters, config, counts / counts.sum(), torch.device("cpu"))


@pytest.mark.parametrize("objective", ["softmax", "mse"])
def test_steps_make_the_loss_of_a_batch_smaller(histories: Histories, objective: str) -> None:
    learner = learner_of(histories, objective)
    batch = next(batches_of(histories).epoch())
    losses = [learner.step(batch) for _ in range(20)]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("objective", ["softmax", "mse"])
def test_a_loss_that_is_no_number_is_an_error_that_names_the_mend(
    histories: Histories, objective: str
) -> None:
    learner = learner_of(histories, objective)
    learner.parameters["user_base"].fill_(np.inf)
    with pytest.raises(TrainingError, match=r"learning_rate = 0\.001 in train\.toml"):
        learner.step(next(batches_of(histories).epoch()))


def test_a_fresh_mse_learner_is_off_by_the_spread_of_the_ratings(histories: Histories) -> None:
    learner = learner_of(histories, "mse")
    for name in ("item_ids", "item_tokens", "user_tokens"):
        learner.parameters[name].zero_()
    batch = next(batches_of(histories).epoch())
    expected = np.mean((batch.ratings - 5.5) ** 2)
    assert learner.step(batch) == pytest.approx(expected, abs=1e-4)
