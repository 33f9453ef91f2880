"""Bars on a terminal: what runs now, with the time left, below the stages that are over."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rich import progress as rich_progress
from rich.console import Console
from rich.text import Text

from tterec.records import Progress, ProgressCallback


@contextmanager
def bars() -> Iterator[ProgressCallback]:
    """A callback that shows progress while the block runs; what it showed goes when that ends.

    Messages stay, above it.
    """
    shown = rich_progress.Progress(
        rich_progress.TextColumn("{task.description}", markup=False),
        rich_progress.BarColumn(),
        _Done(),
        _Time(),
        console=Console(stderr=True),
        transient=True,
    )
    with shown:
        yield Bars(shown)


class _Done(rich_progress.ProgressColumn):
    """`1.2M/5.9M`, or `1.2M` while the total is unknown."""

    def render(self, task: rich_progress.Task) -> Text:
        if task.fields.get("seconds") is not None or not (task.completed or task.total):
            return Text()
        total = "" if task.total is None else f"/{short(task.total)}"
        return Text(f"{short(task.completed)}{total}")


class _Time(rich_progress.TimeRemainingColumn):
    """The time left; of a stage that is over, what it took."""

    def __init__(self) -> None:
        super().__init__(compact=True)

    def render(self, task: rich_progress.Task) -> Text:
        seconds = task.fields.get("seconds")
        if seconds is not None:
            return Text(f"{seconds:,.1f} s")
        return super().render(task) if task.total else Text()


class Bars:
    """One row for each stage that is over, and rows for what runs now."""

    def __init__(self, shown: rich_progress.Progress) -> None:
        self._shown = shown
        self._rows: dict[str, rich_progress.TaskID] = {}
        self._over: set[str] = set()

    def __call__(self, progress: Progress) -> None:
        if progress.message is not None:
            self._shown.console.print(
                progress.message, markup=False, highlight=False, soft_wrap=True
            )
            if progress.total is None:
                return
        if progress.seconds is not None:
            self._end(progress.stage, progress.seconds)
        else:
            self._step(progress)

    def _step(self, progress: Progress) -> None:
        row = self._rows.get(progress.stage)
        if row is None:
            self._clear()
            row = self._rows[progress.stage] = self._shown.add_task(progress.stage, total=None)
        elif progress.stage in self._over or progress.done < self._task(row).completed:
            # It begins again, an epoch for example: rich would take it for finished.
            self._over.discard(progress.stage)
            self._shown.reset(row, seconds=None)
        self._shown.update(row, completed=progress.done, total=progress.total)

    def _end(self, stage: str, seconds: float) -> None:
        """Let the stage be over, and with it what ran as a part of it, below it."""
        row = self._rows.get(stage)
        if row is None:
            return
        for name, other in [*self._rows.items()]:
            if other > row and name not in self._over:
                self._remove(name)
        self._over.add(stage)
        self._shown.update(row, total=1, completed=1, seconds=seconds)

    def _clear(self) -> None:
        """Remove the parts before what begins now. What has no steps has parts."""
        for name, row in [*self._rows.items()]:
            task = self._task(row)
            if name not in self._over and (task.finished or (task.completed and not task.total)):
                self._remove(name)

    def _remove(self, name: str) -> None:
        self._shown.remove_task(self._rows.pop(name))

    def _task(self, row: rich_progress.TaskID) -> rich_progress.Task:
        return next(task for task in self._shown.tasks if task.id == row)


def short(number: float) -> str:
    """A count in at most four characters or so: 999, 1.2k, 12k, 5.9M, 123M, 1.1G."""
    for unit in ("", "k", "M", "G"):
        if number < 999.5 or unit == "G":
            break
        number /= 1000
    return f"{number:.1f}{unit}" if unit and number < 9.95 else f"{number:.0f}{unit}"
