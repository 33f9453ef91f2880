"""How long the stages of a long verb take."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from tterec.records import Progress, ProgressCallback


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
        self.seconds: dict[str, float] = {}
        """By stage, in the order in which they ended; of one that came again, the sum."""

    def __call__(self, progress: Progress) -> None:
        if progress.seconds is not None:
            before = self.seconds.get(progress.stage, 0.0)
            self.seconds[progress.stage] = round(before + progress.seconds, 3)
        self._progress(progress)

    def __str__(self) -> str:
        return ", ".join(f"{stage} {seconds:,.1f} s" for stage, seconds in self.seconds.items())
