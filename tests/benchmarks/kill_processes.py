"""Commands as processes that can be killed, forked from one that has imported what they import.

Importing torch takes two seconds or three, in which there is nothing to be killed.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tterec.database.connection import Database

_PRELOADED = ["torch", "scipy.sparse", "tterec.pipeline", "tterec.cli", "tterec.cli.train"]
_PRELOADED += ["tterec.towers", "tterec.updating", "tterec.working"]


class Running:
    """`tterec ARGUMENTS`, which the server knows by the name `who`."""

    def __init__(self, database: Database, who: str, arguments: list[str], folder: Path) -> None:
        self._stderr = folder / f"{who}.stderr"
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(_PRELOADED)
        self._process = context.Process(
            target=_run,
            args=([*arguments, "--database-url", database.url], who, str(self._stderr)),
            daemon=True,
        )
        self._process.start()

    @property
    def ended(self) -> int | None:
        """As the shell has it, negative where a signal ended it; None while it runs."""
        return self._process.exitcode

    @property
    def said(self) -> str:
        """Its stderr."""
        return self._stderr.read_text(encoding="utf-8") if self._stderr.exists() else ""

    def wait(self, seconds: float = 60) -> int:
        """Until it ends; how. Raises TimeoutError, and kills it."""
        self._process.join(seconds)
        if self._process.exitcode is None:
            self.kill()
            raise TimeoutError(f"it does not end within {seconds:.0f} s: {self.said[-800:]}")
        return self._process.exitcode

    def kill(self) -> None:
        """`kill -9`."""
        self._process.kill()
        self._process.join(30)

    def signal(self, number: int) -> None:
        """Any other signal, to stop it and let it go on."""
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def terminate(self) -> None:
        """`kill`."""
        self._process.terminate()


def _run(arguments: list[str], who: str, stderr: str) -> None:
    """In the child: be the command."""
    to = os.open(stderr, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(to, 2)
    os.dup2(nowhere, 1)
    os.environ["PGAPPNAME"] = who
    os.environ["OMP_NUM_THREADS"] = "1"
    sys.argv = ["tterec", *arguments]

    from tterec.cli import main

    main(arguments)
