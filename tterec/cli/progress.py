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
_A_WHILE = 30.0


@contextmanager
def progress_on_stderr(*, sums: bool = True) -> Iterator[ProgressCallback]:
    """A callback that shows progress while the block runs.

    On a terminal each stage has a bar with done/total and the time left, and messages scroll by
    above it; the bar goes when the block ends. Elsewhere only the messages are written, and with
    `--log-format json` events. With `sums`, what took a while ends with what its stages took.
    """
    began = time.monotonic()
    with _shown() as callback:
        timings = Timings(callback)
        yield timings
    seconds = time.monotonic() - began
    if sums and seconds >= _A_WHILE and len(timings.seconds) > 1 and not logs.is_json():
        logs.say(f"{seconds:,.1f} s: {timings}")


@contextmanager
def _shown() -> Iterator[ProgressCallback]:
    if logs.is_json():
        yield logs.ProgressEvents()
    elif sys.stderr.isatty():
        from tterec.cli.bars import bars

        with bars() as callback:
            yield callback
    else:
        yield _write_message


def _write_message(progress: Progress) -> None:
    if progress.message is not None:
        logs.say(progress.message)
