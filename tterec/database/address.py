"""Where the embedded server listens, as the last start recorded it: the hot path's shortcut."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import quote

DATABASE = "tterec"
USER = "postgres"
PORT = 5432

_FILE = "embedded.json"


def data_directory(home: Path) -> Path:
    """The embedded server's data directory; on Unix its socket lies there too, mode 0700."""
    return home / "postgres"


@dataclass(frozen=True, slots=True)
class Address:
    """A server of ours: a socket directory (Unix) or 127.0.0.1 with a password (Windows)."""

    host: str
    port: int = PORT
    password: str | None = field(default=None, repr=False)

    def url(self, database: str = DATABASE) -> str:
        """The libpq URL of one of the server's databases."""
        if self.password is None:
            return f"postgresql://{USER}@/{database}?host={_quoted(self.host)}&port={self.port}"
        password = quote(self.password, safe="")
        return f"postgresql://{USER}:{password}@{self.host}:{self.port}/{database}"


def _quoted(path: str) -> str:
    return quote(os.fsencode(path), safe="/")  # bytes: a path need not be valid Unicode


def recorded(home: Path) -> Address | None:
    """The address of the last start; None if there was none, or in a copied or moved home."""
    try:
        record = json.loads((home / _FILE).read_text(encoding="utf-8"))
        if record.pop("data_directory") != str(data_directory(home)):
            return None
        return Address(**record)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # a damaged record is as good as none: the server is looked up again


def record(home: Path, address: Address) -> None:
    """Keep the address for the next command."""
    text = json.dumps({"data_directory": str(data_directory(home)), **asdict(address)})
    # On Windows, while another command reads the former one: then the server is looked up again.
    with suppress(PermissionError):
        write_private(home / _FILE, text + "\n")


def forget(home: Path) -> None:
    """Remove the record."""
    with suppress(PermissionError):  # see `record`: nobody listens there any more
        (home / _FILE).unlink(missing_ok=True)


def write_private(path: Path, text: str) -> None:
    """Write a file that only this user can read; a reader sees the old text or the new one."""
    new = path.with_name(path.name + ".new")
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        if sys.platform == "win32":  # modes mean nothing there
            _keep_to_user(new)
        file.write(text)
    new.replace(path)


def _keep_to_user(path: Path) -> None:
    """Take everybody else's entries out of a file's access list. Raises OSError."""
    import subprocess

    user = f"{os.environ.get('USERDOMAIN', '.')}\\{os.environ.get('USERNAME', '')}"
    done = subprocess.run(
        ["icacls", str(path), "/inheritance:r", "/grant:r", f"{user}:F"],
        check=False,
        capture_output=True,
    )
    if done.returncode:
        said = " ".join((done.stdout + done.stderr).decode(errors="replace").split())
        raise OSError(f"{path} cannot be kept to {user}: icacls: {said}")
