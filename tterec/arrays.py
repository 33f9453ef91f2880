"""Large arrays: in memory while they fit there, else in files that the system pages in and out."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tterec import config, memory
from tterec.errors import TterecError

SHARE = 16
"""An array that takes more than one part in so many of the memory that is free goes to a file:
training holds a handful of them at a time, each a few bytes an interaction."""
AT_ONCE = 2**18
"""Rows that are worked on at a time."""


def empty(length: int, kind: DTypeLike) -> NDArray[Any]:
    """An array (length,) to be filled. In a file it is gone with the last reference, and with the
    process, however that ends. Raises TterecError where the disk has no room for it.
    """
    size = length * np.dtype(kind).itemsize
    if size * SHARE <= memory.free_bytes():
        return np.empty(length, dtype=kind)
    with _file(size) as file:
        _reserve(file, size)
        return _mapped(file, length, kind)


def pieces(length: int) -> Iterator[slice]:
    """Slices of so many rows, one after the other."""
    for start in range(0, length, AT_ONCE):
        yield slice(start, min(start + AT_ONCE, length))


def integers_below(most: int) -> type[np.signedinteger[Any]]:
    """The type in which numbers from -1 to `most` are held."""
    return np.int32 if most < 2**31 else np.int64


class Column:
    """An array that grows at its end."""

    def __init__(self, kind: DTypeLike) -> None:
        self._kind = np.dtype(kind)
        self._parts: list[NDArray[Any]] = []
        self._file: IO[bytes] | None = None
        self._length = 0

    def __len__(self) -> int:
        return self._length

    @property
    def in_file(self) -> bool:
        """Whether it has outgrown memory."""
        return self._file is not None

    def append(self, values: NDArray[Any]) -> None:
        """More values, of any type that fits. Raises TterecError where the disk is full."""
        part = values.astype(self._kind)
        self._length += len(part)
        if self._file is None:
            self._parts.append(part)
            # Half of what `empty` allows: the whole is put together beside its parts.
            if self._length * self._kind.itemsize * 2 * SHARE > memory.free_bytes():
                self._file = _file(self._length * self._kind.itemsize)
                for some in self._parts:
                    self._write(some)
                self._parts.clear()
        else:
            self._write(part)

    def array(self) -> NDArray[Any]:
        """All of it, (n,), to be written to as well. The column is empty afterwards."""
        length, self._length = self._length, 0
        if self._file is not None:
            with self._file as file:
                self._file = None
                return _mapped(file, length, self._kind)
        whole, at = np.empty(length, dtype=self._kind), 0
        self._parts.reverse()
        while self._parts:
            part = self._parts.pop()
            whole[at : at + len(part)] = part
            at += len(part)
        return whole

    def close(self) -> None:
        """Let go of the file, if it is in one."""
        if self._file is not None:
            self._file.close()

    def _write(self, part: NDArray[Any]) -> None:
        assert self._file is not None
        rest = memoryview(part.tobytes())
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            self.close()
            raise _no_room(len(self) * self._kind.itemsize, error) from error


def _directory() -> Path:
    """Where files of any size may lie. A /tmp is often memory itself."""
    if os.environ.get("TMPDIR"):
        return Path(tempfile.gettempdir())
    try:
        config.cache().mkdir(parents=True, exist_ok=True)
    except OSError:
        return Path(tempfile.gettempdir())
    return config.cache()


def _file(size: int) -> IO[bytes]:
    try:
        return tempfile.TemporaryFile(dir=_directory(), buffering=0)
    except OSError as error:
        raise _no_room(size, error) from error


def _reserve(file: IO[bytes], size: int) -> None:
    """Else a full disk would end the process in the middle of a sum."""
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)
        else:
            if shutil.disk_usage(_directory()).free < size:
                raise OSError("No space left on device")
            file.truncate(size)
    except OSError as error:
        raise _no_room(size, error) from error


def _mapped(file: IO[bytes], length: int, kind: DTypeLike) -> NDArray[Any]:
    return np.memmap(file, dtype=kind, mode="r+", shape=(length,)).view(np.ndarray)


def _no_room(size: int, error: OSError) -> TterecError:
    return TterecError(
        f"there is not enough memory ({memory.free_bytes() / 2**30:.1f} GB are free) nor room for "
        f"{size / 2**30:.1f} GB in {_directory()} ({error.strerror or error}); make room there, or "
        "set TMPDIR to a directory on a larger disk"
    )
