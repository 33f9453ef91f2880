"""A file of many users' lists: it appears whole, and an interrupted run can be gone on with."""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from tterec.cli import lists, logs
from tterec.errors import InvalidArgument

if TYPE_CHECKING:
    import fasteners

_HEADER = [*lists.MANY]


class ListFile:
    """A file in the making, `.NAME.part` beside it, and what run it is of, `.NAME.run`.

    `done` counts the lists of each user that an earlier run has written.
    """

    def __init__(self, target: Path, run: Mapping[str, Any], *, resume: bool) -> None:
        self._target = target
        self.part = target.with_name(f".{target.name}.part")
        self._run = target.with_name(f".{target.name}.run")
        self.done: Counter[str] = Counter()
        if resume and self.part.exists():
            self._require_same(run)
            self.done = _keep_whole_lists(self.part)
        else:
            self.part.unlink(missing_ok=True)
            self._run.write_text(json.dumps(run), encoding="utf-8")
            with self.part.open("w", encoding="utf-8", newline="") as out:
                lists.write_csv(out, _HEADER, [])

    def _require_same(self, run: Mapping[str, Any]) -> None:
        mend = "leave out --resume to start over"
        try:
            begun = json.loads(self._run.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InvalidArgument(
                f"of what run {self.part} is cannot be read from {self._run}; {mend}"
            ) from error
        if not isinstance(begun, dict):
            raise InvalidArgument(f"{self._run} is no description of a run; {mend}")
        for name in {**run, **begun}:
            before, now = (json.dumps(some.get(name)) for some in (begun, run))
            if before != now:
                raise InvalidArgument(
                    f"{self.part} was begun with {name} {_short(before)}, now it is "
                    f"{_short(now)}; {mend}"
                )

    def finish(self) -> None:
        """Put the file in its place."""
        with self.part.open("rb+") as whole:
            os.fsync(whole.fileno())
        self.part.replace(self._target)
        self._run.unlink(missing_ok=True)

    def forget(self) -> None:
        """Leave nothing to go on with."""
        self.part.unlink(missing_ok=True)
        self._run.unlink(missing_ok=True)


@contextmanager
def opened(
    path: Path, run: Mapping[str, Any], *, resume: bool
) -> Iterator[tuple[TextIO, Counter[str]]]:
    """A stream to append lists to, and how many of each user's are there already.

    When the block ends, the file is complete and takes its place; if it fails, what is written is
    kept for --resume. Raises InvalidArgument where another process writes the file, or where what
    is to be gone on with is of another run.
    """
    target = path.resolve()
    try:
        with _alone(target):
            file = ListFile(target, run, resume=resume)
            empty = file.part.stat().st_size
            try:
                with file.part.open("a", encoding="utf-8", newline="") as out:
                    yield out, file.done
            except BaseException:
                if file.done or file.part.stat().st_size > empty:
                    logs.say(
                        f"What is written is in {file.part}; go on with the same command and "
                        "--resume."
                    )
                else:
                    file.forget()
                raise
            file.finish()
    except OSError as error:
        raise InvalidArgument(f"cannot write {path}: {error.strerror}") from error


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Hold `.NAME.lock`, which is there as long as somebody holds it."""
    import fasteners

    path = target.with_name(f".{target.name}.lock")
    path.parent.stat()  # the lock would make what is missing, all the way down
    while True:
        lock = fasteners.InterProcessLock(path)
        if not lock.acquire(blocking=False):
            raise InvalidArgument(f"another tterec is writing {target}; wait for it, or stop it")
        if _is_there(path, lock):
            break
        lock.release()  # who had it took the file away in between
    try:
        yield
    finally:
        if os.name == "nt":  # no file is removed there while it is open
            lock.release()
            with suppress(OSError):
                path.unlink()
        else:
            path.unlink(missing_ok=True)
            lock.release()


def _is_there(path: Path, lock: fasteners.InterProcessLock) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(lock.lockfile.fileno()))
    except FileNotFoundError:
        return False


def _keep_whole_lists(part: Path) -> Counter[str]:
    """Cut a file off behind its last list that is whole for certain; how many each user has.

    The last one may lack its end, and whatever follows a line that is none came with a crash.
    """
    done: Counter[str] = Counter()
    kept = part.with_name(f"{part.name}.kept")
    try:
        with (
            part.open(encoding="utf-8", newline="", errors="replace") as old,
            kept.open("w", encoding="utf-8", newline="") as new,
        ):
            _copy_whole_lists(old, new, done)
        kept.replace(part)
    finally:
        kept.unlink(missing_ok=True)
    return done


def _copy_whole_lists(old: TextIO, new: TextIO, done: Counter[str]) -> None:
    writer = lists.csv_writer(new)
    writer.writerow(_HEADER)
    rows = csv.reader(old)
    held: list[Sequence[str]] = []
    with suppress(csv.Error):
        if next(rows, None) == _HEADER:
            for row in rows:
                if len(row) != len(_HEADER):
                    break
                user, _, rank, _ = row
                if rank == "1":
                    _write_list(writer, held, done)
                    held = []
                elif not held or user != held[-1][0] or rank != str(len(held) + 1):
                    break
                held.append(row)


def _write_list(writer: Any, held: Sequence[Sequence[str]], done: Counter[str]) -> None:
    if held:
        writer.writerows(held)
        done[held[0][0]] += 1


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:59] + "…"
