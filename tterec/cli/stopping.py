"""Being stopped: by Ctrl-C, by SIGTERM, or by a terminal that closes (SIGHUP).

Each raises KeyboardInterrupt where the command is, so that what it holds is let go: a query that
the server works on is cancelled, files are removed, transactions rolled back.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from tterec.cli import logs

_SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
# What is interrupted at an unlucky moment may lose the exception: a destructor ignores it, a
# connection that is left in the middle of a query raises another one in its place.
_INSIST_SECONDS = 10.0
_received: list[int] = []


class Terminated(KeyboardInterrupt):
    """A signal asks the command to end."""


@contextmanager
def stoppable() -> Iterator[None]:
    """While the block runs, the signals raise Terminated; those that are ignored stay ignored."""
    _received.clear()
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = {one: signal.getsignal(one) for one in _SIGNALS}
    unclaimed = (signal.SIG_DFL, signal.default_int_handler)
    mine = {one: how for one, how in former.items() if how in unclaimed}
    for one in mine:
        signal.signal(one, _terminate)
    try:
        yield
    finally:
        _insist(0)
        for one, how in mine.items():
            signal.signal(one, how)


def _terminate(number: int, _: FrameType | None) -> NoReturn:
    if number in _SIGNALS:
        _received.append(number)
    _insist(_INSIST_SECONDS)
    raise Terminated


def _insist(seconds: float) -> None:
    """Raise Terminated again after so many seconds, for as long as the command has not ended; 0:
    no more."""
    if sys.platform == "win32":  # it has no timer signals
        return
    if seconds:
        signal.signal(signal.SIGALRM, _terminate)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def exit_code() -> int:
    """What shells call a process that the last signal has ended: 130 after Ctrl-C, 143 after
    SIGTERM."""
    return 128 + (_received[-1] if _received else signal.SIGINT)


@contextmanager
def stops(state: str | None = None) -> Iterator[None]:
    """Where the block is stopped, say in one line what that leaves, and exit."""
    try:
        yield
    except KeyboardInterrupt:
        _insist(0)
        logs.stopped(f"Stopped; {state}." if state else "Stopped.", exit_code())
        sys.exit(exit_code())
