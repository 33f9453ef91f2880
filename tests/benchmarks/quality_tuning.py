"""Tuning of the peers within a budget of seconds, and the cache that makes a second run cheap."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.quality_sets import QualitySet

LEAST_TRIALS = 4
"""A peer may try this many settings, whatever they take."""
MOST_TRIALS = 24

Settings = dict[str, Any]
Arrays = dict[str, NDArray[Any]]


class Seconds(NamedTuple):
    """How long something took, by the clock and of processors: of all threads together."""

    wall: float
    cpu: float


class Cache:
    """Arrays by what made them, in the files of a directory; nowhere if there is none.

    The key names the set, the split, the method, its settings and the threads, and a digest of
    the interactions: a set that was changed meets none of the old results.
    """

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)

    def get(self, data: QualitySet, what: Settings, make: Callable[[], Arrays]) -> Arrays:
        """What was kept under this key, else what `make` returns."""
        if self._directory is None:
            return make()
        key = {"set": data.name, "seed": data.seed, "digest": _digest(data), **what}
        text = json.dumps(key, sort_keys=True)
        name = hashlib.sha256(text.encode()).hexdigest()[:16]
        path = self._directory / f"{data.name}-{data.seed}-{what['method']}-{name}.npz"
        if path.exists():
            with np.load(path) as found:
                return dict(found)
        made = make()
        # A run that is ended while it writes leaves no half a file under the name.
        unfinished = path.with_suffix(".part.npz")
        np.savez_compressed(unfinished, key=np.array(text), **made)
        unfinished.replace(path)
        return made


def _digest(data: QualitySet) -> str:
    digest = hashlib.sha256()
    for array in (data.train.user_ids, data.train.item_ids, data.train.ratings, data.judged):
        digest.update(np.ascontiguousarray(array).tobytes())
    for table in (data.users, data.items):
        for column in table.columns:
            digest.update(f"{column.name} {column.kind}".encode())
            digest.update("\0".join(map(str, column.values)).encode())
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Tuned:
    """The best settings, what validation said of them, and what finding them took."""

    settings: Settings
    value: float
    trials: int
    seconds: float


def tune(
    candidates: Iterator[Settings],
    judge: Callable[[Settings], tuple[float, Seconds]],
    budget: float,
) -> Tuned:
    """Try settings until `budget` seconds of learning are spent, at least LEAST_TRIALS; the best.

    `judge` returns a value, the more the better, and how long learning took: a trial from the
    cache counts what it once took, so that a repeated search goes the same way. Seconds are the
    processors', which count the same on a busy machine.
    """
    best: tuple[float, Settings] | None = None
    spent, trials = 0.0, 0
    for settings in candidates:
        if trials >= MOST_TRIALS or (trials >= LEAST_TRIALS and spent >= budget):
            break
        value, seconds = judge(settings)
        spent += seconds.cpu
        trials += 1
        if best is None or value > best[0]:
            best = value, settings
    assert best is not None
    return Tuned(best[1], best[0], trials, spent)


def candidates(
    first: tuple[Settings, ...], draw: Callable[[np.random.Generator], Settings] | None
) -> Iterator[Settings]:
    """The first settings, then draws without end."""
    yield from first
    random = np.random.default_rng(0)
    while draw is not None:
        yield draw(random)


def timed(make: Callable[[], Any]) -> tuple[Any, Seconds]:
    """What `make` returns, and how long it took."""
    wall, cpu = time.perf_counter(), time.process_time()
    made = make()
    return made, Seconds(time.perf_counter() - wall, time.process_time() - cpu)
