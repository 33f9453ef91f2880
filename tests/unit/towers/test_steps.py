"""One step of learning."""

import numpy as np
import pytest
import torch

from tests.unit.towers.test_batches import ITEM_TABLE, ITEMS, USER_TABLE, batches_of, histories
from tterec.config import TrainingConfig
from tterec.errors import TrainingError
from tterec.towers import model
from tterec.towers.distributed import ALONE, Ranks
from tterec.towers.features import Features
from tterec.towers.histories import Histories
from tterec.towers.steps import Learner

__all__ = ["histories"]


def learner_of(objective: str = "softmax", *, ranks: Ranks = ALONE, **settings: object) -> Learner:
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
    config = TrainingConfig(objective=objective, dim=8, gamma=0.0, **settings)  # type: ignore[arg-type]
    return Learner(parameters, config, torch.device("cpu"), ranks=ranks)


OBJECTIVES = pytest.mark.parametrize(
    "objective", ["softmax", "full-softmax", "mse", "triplet", "bpr"]
)


@OBJECTIVES
def test_steps_make_the_loss_of_a_batch_smaller(histories: Histories, objective: str) -> None:
    learner = learner_of(objective)
    batch = next(batches_of(histories).epoch())
    losses = [learner.step(batch) for _ in range(20)]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("optimiser", ["adamw", "nadam", "sparseadam"])
@pytest.mark.parametrize("objective", ["softmax", "mse"])
def test_every_optimiser_makes_the_loss_of_a_batch_smaller(
    histories: Histories, objective: str, optimiser: str
) -> None:
    learner = learner_of(objective, optimiser=optimiser)
    batch = next(batches_of(histories).epoch())
    losses = [learner.step(batch) for _ in range(20)]
    assert losses[-1] < losses[0]


def test_the_pace_shortens_the_step(histories: Histories) -> None:
    moved = []
    for pace in (1.0, 0.25):
        learner = learner_of()
        before = learner.parameters["item_base"].clone()
        learner.step(next(batches_of(histories).epoch()), pace)
        moved.append((learner.parameters["item_base"] - before).abs())
    torch.testing.assert_close(moved[1], moved[0] / 4, rtol=1e-3, atol=1e-6)


@OBJECTIVES
def test_a_loss_that_is_no_number_is_an_error_that_names_the_mend(
    histories: Histories, objective: str
) -> None:
    learner = learner_of(objective)
    learner.parameters["user_base"].fill_(np.inf)
    with pytest.raises(TrainingError, match=r"learning_rate = 0\.001 in train\.toml"):
        learner.step(next(batches_of(histories).epoch()))


def test_a_fresh_mse_learner_is_off_by_the_spread_of_the_ratings(histories: Histories) -> None:
    learner = learner_of("mse")
    for name in ("item_ids", "item_tokens", "user_tokens"):
        learner.parameters[name].zero_()
    batch = next(batches_of(histories).epoch())
    expected = np.mean((batch.ratings - 5.5) ** 2)
    assert learner.step(batch) == pytest.approx(expected, abs=1e-4)
