"""What a benchmark wants: a line for each figure with a target, and exit code 1 below one."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from tterec.urls import mask_password


class Targets:
    """The figures of one run that have a target."""

    def __init__(self) -> None:
        self._missed = 0

    def at_most(self, what: str, figure: float, target: float, unit: str = "") -> None:
        """Print a figure that shall be no more than its target."""
        self._print(what, figure, target, unit, "at most", met=figure <= target)

    def at_least(self, what: str, figure: float, target: float, unit: str = "") -> None:
        """Print a figure that shall be no less than its target."""
        self._print(what, figure, target, unit, "at least", met=figure >= target)

    def _print(
        self, what: str, figure: float, target: float, unit: str, bound: str, *, met: bool
    ) -> None:
        self._missed += not met
        unit = f" {unit}" if unit else ""
        said = f"{what}: {figure:,.3g}{unit} (target: {bound} {target:,g}{unit})"
        print(f"{'met   ' if met else 'MISSED'} {said}", flush=True)

    def end(self) -> None:
        """Print the command that was run; exit with 1 where a target is missed."""
        program = f"tests.benchmarks.{Path(sys.argv[0]).stem}"
        given = shlex.join(["python", "-m", program, *map(_masked, sys.argv[1:])])
        print(f"by     {given}", flush=True)
        if self._missed:
            sys.exit(1)


def _masked(argument: str) -> str:
    """An argument of the command line; a database's URL without its password."""
    name, mark, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
    return f"{name}{mark}{mask_password(value)}"
