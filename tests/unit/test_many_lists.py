"""Lists of many users on the command line: what a run that goes on shows."""

from __future__ import annotations

from tterec.cli.many_lists import _beyond
from tterec.records import Progress


def test_a_run_that_goes_on_counts_the_users_that_are_done_and_nothing_else() -> None:
    said: list[Progress] = []
    shown = _beyond(said.append, 30)
    for step in (Progress("read vectors"), Progress("make lists", 5, 10)):
        shown(step)
        shown(Progress(step.stage, seconds=1.0))
    assert said == [
        Progress("read vectors"),
        Progress("read vectors", seconds=1.0),
        Progress("make lists", 35, 40),
        Progress("make lists", seconds=1.0),
    ]
