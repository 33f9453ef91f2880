"""Progress of long commands, on stderr: a bar on a terminal, plain lines in a pipe."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tterec.cli import logs
from tterec.records import Progress, ProgressCallback
from tterec.timings import Timings

# Nobody asks where the time went of what takes less.
_A_WHILE = 10.0


@contextmanager
def progress_on_stderr() -> Iterator[ProgressCallback]:
    """A callback that shows progress while the block runs.

    On a terminal each stage has a bar with done/total and the time left, and messages scroll by
    above it; the bar goes when the block ends. Elsewhere only the messages are written, and with
    `--log-format json` events. What took longer than a while ends with what its stages took.
    """
    began = time.monotonic()
    with _shown() as callback:
        timings = Timings(callback)
        yield timings
    seconds = time.monotonic() - began
    if seconds >= _A_WHILE and len(timings.seconds) > 1 and not logs.is_json():
        logs.say(f"{seconds:,.1f} s: {timings}")


@contextmanager
def _shown() -> Iterator[ProgressCallback]:
    if logs.is_json():
        yield logs.ProgressEvents()
    elif sys.stderr.isatty():
        with _bars() as callback:
            yield callback
    else:
        yield _write_message


def _write_message(progress: Progress) -> None:
    if progress.message is not None:
        logs.say(progress.message)


@contextmanager
def _bars() -> Iterator[ProgressCallback]:
    from rich import progress as rich_progress
    from rich.console import Console
    from rich.text import Text

    class Done(rich_progress.ProgressColumn):
        """`1.2M/5.9M`, or `1.2M` while the total is unknown."""

        def render(self, task: rich_progress.Task) -> Text:
            total = "" if task.total is None else f"/{short(task.total)}"
            return Text(f"{short(task.completed)}{total}")

    bars = rich_progress.Progress(
        rich_progress.TextColumn("{task.description}", markup=False),
        rich_progress.BarColumn(),
        Done(),
        rich_progress.TimeRemainingColumn(compact=True),
        console=Console(stderr=True),
        transient=True,
    )
    tasks: dict[str, rich_progress.TaskID] = {}

    def show(progress: Progress) -> None:
        if progress.seconds is not None:
            return
        if progress.message is not None:
            bars.console.print(progress.message, markup=False, highlight=False, soft_wrap=True)
        if progress.message is None or progress.total is not None:
            if progress.stage not in tasks:
                tasks[progress.stage] = bars.add_task(progress.stage, total=None)
            bars.update(tasks[progress.stage], completed=progress.done, total=progress.total)

    with bars:
        yield show


def short(number: float) -> str:
    """A count in at most four characters or so: 999, 1.2k, 12k, 5.9M, 123M, 1.1G."""
    for unit in ("", "k", "M", "G"):
        if number < 999.5 or unit == "G":
            break
        number /= 1000
    return f"{number:.1f}{unit}" if unit and number < 9.95 else f"{number:.0f}{unit}"
