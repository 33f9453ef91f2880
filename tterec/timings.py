"""How long the stages of a long verb take."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tterec.records import Progress, ProgressCallback

_LOGGER = logging.getLogger("tterec")


@contextmanager
def timed(progress: ProgressCallback, name: str) -> Iterator[None]:
    """The block is a stage: its beginning is a step, its end is told with its seconds."""
    progress(Progress(name))
    began = time.perf_counter()
    yield
    progress(Progress(name, seconds=time.perf_counter() - began))


class Timings:
    """A progress callback that keeps what each stage took, and passes everything on."""

    def __init__(self, progress: ProgressCallback) -> None:
        self._progress = progress
        self._seconds: dict[str, float] = {}

    def __call__(self, progress: Progress) -> None:
        if progress.seconds is not None:
            before = self._seconds.get(progress.stage, 0.0)
            self._seconds[progress.stage] = before + progress.seconds
        self._progress(progress)

    @property
    def seconds(self) -> dict[str, float]:
        """By stage, in the order in which they first ended; of one that came again, the sum."""
        return {stage: round(seconds, 3) for stage, seconds in self._seconds.items()}

    def __str__(self) -> str:
        return ", ".join(f"{stage} {seconds:,.1f} s" for stage, seconds in self.seconds.items())


class Laps:
    """What the steps of one answer take, for the logger `tterec` at debug level.

    Where that is off, nothing is measured.
    """

    def __init__(self, answer: str) -> None:
        self._answer = answer
        self._on = _LOGGER.isEnabledFor(logging.DEBUG)
        self._last = time.perf_counter() if self._on else 0.0
        self._milliseconds: dict[str, float] = {}

    def lap(self, step: str) -> None:
        """That a step has just ended."""
        if self._on:
            now = time.perf_counter()
            before = self._milliseconds.get(step, 0.0)
            self._milliseconds[step] = before + 1000 * (now - self._last)
            self._last = now

    def log(self) -> None:
        """That the answer is there: one record, with the milliseconds of each step."""
        if self._on:
            facts = {step: round(taken, 3) for step, taken in self._milliseconds.items()}
            _LOGGER.debug(
                "%s: %s",
                self._answer,
                ", ".join(f"{step} {taken:.2f} ms" for step, taken in facts.items()),
                extra={"facts": {"event": "timings", "milliseconds": facts}},
            )
