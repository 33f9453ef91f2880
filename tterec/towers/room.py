"""Whether learning fits into memory: unlike interactions, the towers cannot lie in files."""

from __future__ import annotations

import math
import pickle
from dataclasses import replace

from tterec import memory
from tterec.config import TrainingConfig
from tterec.errors import TrainingError
from tterec.towers import model
from tterec.towers.batches import fitting_batch
from tterec.towers.distributed import ALONE, Ranks
from tterec.towers.learning import Lesson
from tterec.towers.spectral import spectral_bytes
from tterec.towers.validation import validation_bytes

FLOAT, DOUBLE = 4, 8
PAIR = 20
"""Bytes a step takes for an interaction and a candidate: their score, what the loss makes of it,
and gradients."""


def check_room(
    shape: model.Shape,
    lesson: Lesson,
    config: TrainingConfig,
    *,
    carried: bool = False,
    ranks: Ranks = ALONE,
) -> None:
    """Raise TrainingError where learning a lesson takes more memory than is free.

    Counted is what this process takes beyond the lesson, and what the other `ranks` on its machine
    take with theirs. `carried`: the parameters are to be those of trained towers.
    """
    free = memory.free_bytes()

    def needed(dim: int, beside: int) -> int:
        of_dim = replace(shape, dim=dim)
        held, step = _learning(of_dim, lesson, config, carried, alone=ranks.size == 1)
        others = beside * (held + step + _size(lesson)) if beside else 0
        return _first(of_dim, lesson, config, held, step) + others

    wanted = needed(shape.dim, ranks.beside)
    if wanted <= free:
        return
    smaller = (shape.dim // 2**n for n in range(1, shape.dim.bit_length() - 1))
    dim = next((dim for dim in smaller if needed(dim, ranks.beside) <= free), None)
    raise TrainingError(
        f"learning the towers of {shape.items:,} items and "
        f"{shape.item_tokens + shape.user_tokens:,} values and words of features takes "
        f"{wanted / 2**30:.1f} GB with {shape.dim} dimensions{_in_processes(ranks.beside)}, and "
        f"{free / 2**30:.1f} GB of memory are free; {_mend(dim, ranks.beside, carried)}"
    )


def _in_processes(beside: int) -> str:
    return f" in {beside + 1} processes" if beside else ""


def _mend(dim: int | None, beside: int, carried: bool) -> str:
    larger = "on a larger machine"
    columns = "leave columns out of the items and users queries"
    if carried:
        anew = f"with fewer dimensions: tterec train --dim {dim}" if dim else f"anew: {columns}"
        return f"fine-tune {larger}, or train {anew}"
    fewer = f"with fewer processes: torchrun --nproc-per-node {beside}, " if beside else ""
    if dim:
        return f"train {fewer}with --dim {dim}, or {larger}"
    return f"train {fewer}{larger}, or {columns}"


def _tables(shape: model.Shape) -> list[int]:
    """The bytes of each parameter."""
    return [FLOAT * math.prod(size) for size in model.initial_shapes(shape).values()]


def _learning(
    shape: model.Shape, lesson: Lesson, config: TrainingConfig, carried: bool, *, alone: bool
) -> tuple[int, int]:
    """What each rank holds to learn, parameters and the optimiser's sums of them; and what it
    takes for a step."""
    tables = _tables(shape)
    every = sum(tables)
    batch = fitting_batch(int(lesson.targets.sum()), config.batch_size)
    candidates = batch * (
        1 + config.uniform_negatives + config.popular_negatives + config.similar_negatives
    )
    if config.objective == "full-softmax":
        candidates = shape.items
    step = 0 if config.objective == "mse" else int(batch * candidates) * PAIR
    if config.device != "cpu":
        return every, 0  # the rest is in the memory of the device
    if config.optimiser == "adagrad":
        rows = shape.items + shape.item_tokens + shape.user_tokens
        return 2 * every + DOUBLE * rows, step  # squares, and when each row decayed
    kept = every if carried else 0  # what rows were that no step meets
    if config.optimiser == "sparseadam":
        return 3 * every + kept, step  # two moments
    # Two moments, and gradients, whose memory is not all given back between steps; for all ranks
    # these are in one piece as well.
    together = 0 if alone else every
    return 4 * every + kept, max(together + 2 * max(tables), step)


def _first(shape: model.Shape, lesson: Lesson, config: TrainingConfig, held: int, step: int) -> int:
    """What rank 0 takes at most: to start, to learn and judge, or to embed and save in the end."""
    every = sum(_tables(shape))
    of_items, of_users = (FLOAT * shape.dim * len(rows) for rows in (lesson.items, lesson.users))
    start = every
    if config.initialisation == "spectral":
        start += spectral_bytes(lesson.histories.users, shape.items, shape.dim)
    judging = validation_bytes(shape.items, shape.dim) if config.device == "cpu" else 0
    # The best parameters, items' own ones with gates, two vectors of each item, and what is saved,
    # once as arrays and once as bytes.
    end = 3 * every + 3 * of_items + of_users
    return max(start, held + every + max(step, judging), end)


def _size(lesson: Lesson) -> int:
    """The bytes of its arrays."""
    arrays: list[pickle.PickleBuffer] = []
    pickle.dumps(lesson, protocol=5, buffer_callback=arrays.append)
    return sum(one.raw().nbytes for one in arrays)
