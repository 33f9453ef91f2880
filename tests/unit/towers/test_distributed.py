"""Two ranks, for real: they share out a batch and stay equal to the last bit."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.unit.towers.test_batches import batches_of, histories, negatives_of, planted
from tests.unit.towers.test_steps import learner_of
from tterec.errors import ConfigError, TrainingError
from tterec.towers import distributed
from tterec.towers.batches import Batches
from tterec.towers.distributed import ALONE, Group
from tterec.towers.histories import Histories

__all__ = ["histories"]


def test_two_ranks_keep_what_they_promise() -> None:
    """Runs this file in two processes of torchrun; see `_promises`."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*launcher, "--nproc-per-node", "2", "-m", __name__],
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    # Both write to one pipe: the end of a line may come after the next one.
    assert sorted(re.findall(r"kept-\d", done.stdout)) == ["kept-0", "kept-1"]


_ALIKE = """
import sys
from tterec.errors import TrainingError
from tterec.towers import distributed
try:
    with distributed.joined() as group:
        raise TrainingError("the loss became nan")
except TrainingError as error:
    print(f"rank {group.rank}: {error}")
    sys.exit(1)
"""


def test_what_all_ranks_meet_alike_the_first_one_says(tmp_path: Path) -> None:
    script = tmp_path / "alike.py"
    script.write_text(_ALIKE)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    done = subprocess.run(
        [*launcher, "--nproc-per-node", "3", str(script)],
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=200,
    )
    assert done.returncode != 0
    assert done.stdout == "rank 0: the loss became nan\n"


def _batches(known: Histories, rank: int, ranks: int) -> Batches:
    negatives = negatives_of(known, 1.0)
    return batches_of(known, negatives=negatives, id_dropout=0.2, seed=5, rank=rank, ranks=ranks)


def _union_and_means(group: Group) -> None:
    own = {
        0: {"a": np.array([1, 5, 9]), "b": np.array([], dtype=np.int64)},
        1: {"a": np.array([2, 5]), "b": np.array([7])},
    }
    found = group.union(own[group.rank])
    assert {name: rows.tolist() for name, rows in found.items()} == {"a": [1, 2, 5, 9], "b": [7]}
    gradients = [torch.full((2, 2), float(group.rank)), torch.tensor([3.0 * group.rank])]
    assert group.mean(gradients, 1.0 + group.rank) == 1.5
    assert gradients[0].tolist() == [[0.5, 0.5], [0.5, 0.5]]
    assert gradients[1].tolist() == [1.5]
    assert group.as_first((group.rank + 0.25, float("nan")))[0] == 0.25


def _steps_stay_equal(group: Group, known: Histories) -> None:
    settings = [
        ("softmax", "adagrad"),
        ("mse", "adagrad"),
        ("softmax", "sparseadam"),
        ("bpr", "adamw"),
        ("triplet", "nadam"),
    ]
    for objective, optimiser in settings:
        learner = learner_of(objective, optimiser=optimiser, ranks=group)
        for batch in _batches(known, group.rank, 2).epoch():
            value = learner.step(batch)
            assert group.as_first((value,)) == (value,)
        learner.settle()
        group.require_equal(learner.parameters)


def _a_shared_step_is_the_step_of_the_mean(group: Group, known: Histories) -> None:
    """Each rank makes both ranks' batches, and takes the mean of their gradients by itself."""
    for objective in ("softmax", "mse"):
        both = [next(_batches(known, rank, 2).epoch()) for rank in range(2)]
        shared = learner_of(objective, ranks=group)
        shared.step(both[group.rank])
        rows = {
            name: np.unique(np.concatenate([first, second]))
            for name, first, second in zip(
                ("item_ids", "item_tokens", "user_tokens"),
                *([one.item_rows, one.items.token_rows, one.users.token_rows] for one in both),
                strict=True,
            )
        }
        alone = learner_of(objective, ranks=_Both(rows))
        gradients = []
        for batch in both:
            held, read = alone._read(batch)
            loss = alone._mse(batch, read) if objective == "mse" else alone._ranking(batch, read)
            (loss + 0.0 * sum(one.sum() for one in held.values())).backward()
            gradients.append([one.clone() for one in alone._optimiser.gradients()])
        held, _ = alone._read(both[0])
        sum(one.sum() for one in held.values()).backward()  # type: ignore[union-attr]
        for one, first, second in zip(alone._optimiser.gradients(), *gradients, strict=True):
            one.copy_((first + second) / 2)
        alone._optimiser.step()
        for name, parameter in alone.parameters.items():
            torch.testing.assert_close(shared.parameters[name], parameter, rtol=1e-4, atol=1e-5)


class _Both(distributed.Alone):
    """One process that plays two ranks."""

    size = 2

    def __init__(self, rows: dict[str, np.ndarray]) -> None:
        self._rows = rows

    def union(self, rows: object) -> dict[str, np.ndarray]:  # type: ignore[override]  # noqa: ARG002
        """Of both."""
        return self._rows


def _a_rank_without_bfloat16_keeps_all_from_it(group: Group, known: Histories) -> None:
    """The trial waits for all ranks in every step: where one cannot, none may begin."""
    batch = next(_batches(known, group.rank, 2).epoch())
    tried = []

    def trial(step: Callable[[bool], object], _: torch.device) -> bool:
        tried.append(True)
        step(True)
        return True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tterec.towers.steps.bfloat16_helps", trial)
        for able in ({0: True, 1: False}, {0: False, 1: True}, {0: True, 1: True}):
            learner = learner_of(ranks=group)
            patch.setattr("tterec.towers.steps.has_bfloat16", lambda _, able=able: able[group.rank])
            learner.choose_precision(batch)
            assert learner.bfloat16 is all(able.values())
    assert len(tried) == 1


def _what_differs_is_noticed(group: Group) -> None:
    same = {"a": torch.ones(3), "b": torch.zeros(2)}
    group.require_equal(same)
    same["b"][1] = 1e-30 * group.rank
    with pytest.raises(TrainingError, match="rank 1 are no longer those of rank 0"):
        group.require_equal(same)


def _what_is_handed_out_arrives(group: Group) -> None:
    given = {"n": 3, "x": np.arange(5), "y": np.zeros((0, 2)), "z": np.ones(3, np.float32)}
    given["x"].flags.writeable = False
    if group.rank == 0:
        group.hand_out(given)
        return
    found = group.receive()
    assert found["n"] == 3
    assert all(np.array_equal(found[name], given[name]) for name in "xyz")


def test_a_share_of_every_batch(histories: Histories) -> None:
    """Together the ranks meet what one meets alone, in as many steps."""
    alone, *both = _batches(histories, 0, 1), _batches(histories, 0, 2), _batches(histories, 1, 2)
    assert {one.steps for one in both} == {alone.steps}
    for whole, first, second in zip(alone.epoch(), both[0].epoch(), both[1].epoch(), strict=True):
        assert abs(len(first.targets) - len(second.targets)) <= 1
        assert len(first.targets) + len(second.targets) == len(whole.targets)


def test_more_ranks_than_interactions_are_refused(histories: Histories) -> None:
    with pytest.raises(TrainingError, match="too few for 100000 processes"):
        _batches(histories, 0, 100_000)


def test_a_device_that_is_not_there_is_refused() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(ConfigError, match="train with --device cpu"):
        ALONE.device("cuda")


def _promises() -> None:
    with distributed.joined() as group:
        known = planted()
        _union_and_means(group)
        _what_is_handed_out_arrives(group)
        _steps_stay_equal(group, known)
        _a_shared_step_is_the_step_of_the_mean(group, known)
        _a_rank_without_bfloat16_keeps_all_from_it(group, known)
        _what_differs_is_noticed(group)
    assert not any("gloo" in name for name in _threads())
    print(f"kept-{group.rank}", flush=True)


def _threads() -> list[str]:
    """The names of all of this process's threads, those of libraries too, where the system has a
    list of them."""
    tasks = Path("/proc/self/task")
    return [one.joinpath("comm").read_text() for one in tasks.iterdir()] if tasks.exists() else []


if __name__ == "__main__":
    _promises()
