"""Products in bfloat16, where they are faster."""

import time

import numpy as np
import pytest
import torch

from tests.unit.towers.test_batches import batches_of, histories
from tests.unit.towers.test_steps import learner_of
from tterec.towers.histories import Histories
from tterec.towers.precision import bfloat16_helps

__all__ = ["histories"]
CPU = torch.device("cpu")


@pytest.mark.parametrize(("seconds", "helps"), [((0.03, 0.001), True), ((0.001, 0.03), False)])
def test_what_takes_less_time_is_chosen(seconds: tuple[float, float], helps: bool) -> None:
    tried = []

    def step(half: bool) -> None:
        tried.append(half)
        time.sleep(seconds[half])

    assert bfloat16_helps(step, CPU) == helps
    assert tried.count(True) == tried.count(False) > 1


@pytest.mark.parametrize("optimiser", ["adagrad", "adamw", "sparseadam"])
@pytest.mark.parametrize("objective", ["softmax", "mse"])
def test_choosing_changes_nothing_but_the_precision(
    histories: Histories, objective: str, optimiser: str
) -> None:
    learners = [learner_of(objective, optimiser=optimiser) for _ in range(2)]
    batch = next(batches_of(histories).epoch())
    learners[0].choose_precision(batch)
    assert learners[0].bfloat16 in (True, False)
    learners[0].bfloat16 = False
    for learner in learners:
        learner.step(batch)
    for name, tensor in learners[0].parameters.items():
        torch.testing.assert_close(tensor, learners[1].parameters[name])


@pytest.mark.parametrize("objective", ["softmax", "bpr", "triplet"])
def test_bfloat16_learns_nearly_the_same_in_float32_parameters(
    histories: Histories, objective: str
) -> None:
    final, first = [], []
    for bfloat16 in (False, True):
        learner = learner_of(objective)
        learner.bfloat16 = bfloat16
        batch = next(batches_of(histories).epoch())
        losses = [learner.step(batch) for _ in range(20)]
        first.append(losses[0])
        final.append(losses[-1])
        assert all(tensor.dtype == torch.float32 for tensor in learner.parameters.values())
    assert first[0] != first[1], "the products were the same"
    assert np.allclose(first[0], first[1], rtol=0.01)
    assert np.allclose(final[0], final[1], rtol=0.05, atol=0.01 * first[0])


def test_a_cpu_keeps_float32(histories: Histories) -> None:
    learner = learner_of()
    learner.step(next(batches_of(histories).epoch()))
    assert learner.bfloat16 is False
