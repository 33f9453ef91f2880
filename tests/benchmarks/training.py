"""How fast does training learn, and in how much memory?

    python -m tests.benchmarks.training [--interactions 400000] [--epochs 2] [--threads 0]

Trains on a generated shop of the shape of Book-Crossing (as arrays: no database) and compares the
time of a step with that of the bare matrix products of the same shapes, taken between the steps:
the users by the candidates, and the two products of their gradients. Medians of both.
Peak memory is that of the whole process, torch included, above which the tables take a few hundred
MB.
"""

from __future__ import annotations

import argparse
import sys
import time
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from tests.benchmarks.targets import Targets
from tterec.config import TrainingConfig
from tterec.records import Column, FeatureTable, Interactions, Progress
from tterec.towers import learning, train
from tterec.towers.batches import Batch
from tterec.towers.steps import Learner

TARGET_SECONDS = 180.0
TARGET_GIGABYTES = 2.5
AIM = 0.5
"""Share of the bound that learning is to reach; the bound is the products alone."""
EVERY = 4
"""Steps from one measurement of the bound to the next."""


def texts(values: list[str]) -> NDArray[np.object_]:
    """Texts as a feature column holds them."""
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def shop(interactions: int, seed: int = 0) -> tuple[Interactions, FeatureTable, FeatureTable]:
    """Zipf items, and users as uneven as Book-Crossing's: most have one, one has thousands."""
    random = np.random.default_rng(seed)
    users, items = interactions * 7 // 10, interactions * 27 // 100
    activity = 1 / np.arange(1, interactions // 7 + 1) ** 0.95
    popularity = 1 / (10 + np.arange(items)) ** 0.8
    user_ids = random.choice(len(activity), size=interactions, p=activity / activity.sum())
    item_ids = random.choice(items, size=interactions, p=popularity / popularity.sum())
    pairs = np.unique(np.column_stack([user_ids, item_ids]), axis=0)
    ratings = random.integers(1, 11, len(pairs)).astype(np.float32)
    ratings[random.random(len(pairs)) < 0.4] = np.nan
    words = [f"w{number}" for number in random.integers(0, 20_000, size=items * 5)]
    titles = texts([" ".join(words[5 * i : 5 * i + 5]) for i in range(items)])
    authors = texts([f"author {n}" for n in random.integers(0, items // 3, size=items)])
    towns = texts([f"town {n}, land {n % 40}" for n in random.integers(0, users // 5, size=users)])
    return (
        Interactions(pairs[:, 0], pairs[:, 1], ratings, np.full(len(pairs), np.nan)),
        FeatureTable(
            np.arange(users),
            (
                Column("age", "number", random.normal(40, 12, size=users)),
                Column("location", "text", towns),
            ),
        ),
        FeatureTable(
            np.arange(items), (Column("title", "text", titles), Column("author", "text", authors))
        ),
    )


def product_seconds(batch: Batch, dim: int) -> float:
    """The time of one step's three products, in seconds."""
    users, items = torch.rand(len(batch.runs), dim), torch.rand(len(batch.candidates), dim)
    # Where they go is there beforehand: finding memory for them is no product.
    logits = torch.zeros(len(users), len(items))
    of_users, of_items = torch.zeros_like(users), torch.zeros_like(items)
    started = time.perf_counter()
    torch.mm(users, items.T, out=logits)
    torch.mm(logits, items, out=of_users)
    torch.mm(logits.T, users, out=of_items)
    return time.perf_counter() - started


class MeasuredLearner(Learner):
    """Measures the bound between steps."""

    steps = 0
    bounds: ClassVar[list[float]] = []
    paused: ClassVar[float] = 0.0
    """Seconds that measuring has taken."""

    def step(self, batch: Batch, pace: float = 1.0) -> float:
        """A step, and now and then the products of its shapes."""
        loss = super().step(batch, pace)
        self.steps += 1
        if self.steps % EVERY == 0:
            started = time.perf_counter()
            self.bounds.append(product_seconds(batch, self._config.dim))
            MeasuredLearner.paused += time.perf_counter() - started
        return loss


def peak_gigabytes() -> float:
    """The most memory that this process has held."""
    if sys.platform == "win32":
        return float("nan")
    import resource

    # Kilobytes, but bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def main() -> None:
    """Train once and say how that went."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--interactions", type=int, default=400_000)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--threads", type=int, default=0)
    options = parser.parse_args()
    interactions, users, items = shop(options.interactions)
    config = TrainingConfig(epochs=options.epochs, patience=options.epochs, threads=options.threads)
    learning.Learner = MeasuredLearner  # type: ignore[misc]
    steps: list[float] = []
    last = 0.0

    def watch(progress: Progress) -> None:
        nonlocal last
        now = time.perf_counter() - MeasuredLearner.paused
        if progress.stage == "train" and progress.message:
            print(progress.message)
        elif progress.stage == "train" and progress.done > 1:
            steps.append(now - last)
        last = time.perf_counter() - MeasuredLearner.paused

    started = time.perf_counter()
    model = train(interactions, users, items, config, watch)
    seconds = time.perf_counter() - started
    gigabytes = peak_gigabytes()
    threads = model.metrics["threads"]
    step, bound = float(np.median(steps)), float(np.median(MeasuredLearner.bounds))
    print(
        f"{len(interactions):,} interactions, {len(items):,} items, {len(users):,} users; "
        f"{threads} threads\n"
        f"train(): {seconds:.1f} s with {options.epochs} epochs, peak {gigabytes:.2f} GB\n"
        f"learning: a step of {1000 * step:.0f} ms, its bare matrix products "
        f"{1000 * bound:.0f} ms: {step / bound:.2f} times"
    )
    targets = Targets()
    targets.at_least("learning, of the bound by its matrix products", bound / step, AIM)
    targets.at_most("train()", seconds, TARGET_SECONDS, "s")
    targets.at_most("its memory at the peak", gigabytes, TARGET_GIGABYTES, "GB")
    targets.end()


if __name__ == "__main__":
    main()
