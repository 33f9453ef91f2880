"""Signals that end a command, also where the first exception is lost."""

from __future__ import annotations

import os
import signal
import time

import pytest

from tterec.cli import stopping


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="Windows has no timer signals")
def test_who_loses_the_exception_is_told_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "_INSIST_SECONDS", 0.2)
    lost = []

    def work() -> None:
        with stopping.stoppable(), stopping.stops():
            for _ in range(3):
                try:
                    if not lost:
                        os.kill(os.getpid(), signal.SIGTERM)
                    time.sleep(5)
                except stopping.Terminated as one:
                    lost.append(one)
            time.sleep(5)

    with pytest.raises(SystemExit) as ended:
        work()
    assert len(lost) == 3
    assert ended.value.code == 128 + signal.SIGTERM
    time.sleep(0.5)  # and no more
