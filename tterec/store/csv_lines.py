"""The lines of a file that may be gzip or not, UTF-8 or not, in bounded memory."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from tterec import errors

BLOCK_BYTES = 2**18
MAX_BYTES = 2**20
"""A longer line is no record of a book or a reader; it is cut, so that memory stays bounded."""

BOMB_BYTES, BOMB_RATIO = 2**26, 100
"""A gzip file that has grown to so many bytes, and so many times its size, is taken for a bomb: the
Book-Crossing files grow fourfold, and hardly any table grows by more than twenty."""

_GZIP, _ZIP, _UTF16 = b"\x1f\x8b", b"PK\x03\x04", (b"\xff\xfe", b"\xfe\xff")
# The five bytes that Windows-1252 leaves open are what Latin-1 says, as in browsers.
_WINDOWS_1252 = {
    byte: bytes([byte]).decode("cp1252", errors="ignore") or chr(byte) for byte in range(128, 160)
}


class InputFile:
    """An open file: a stream of plain bytes, and how far its reading has come.

    `done` counts bytes of the file itself, compressed or not; `total` is its size, None for a
    pipe. Whether it is gzip is decided by its first bytes, not by its name.
    """

    def __init__(self, raw: io.BufferedReader, name: str, total: int | None) -> None:
        self.name, self.total = name, total
        self._raw = raw
        try:
            start = raw.peek(4)[:4]
        except OSError as error:
            raise errors.LoadError(f"cannot read {name}: {error.strerror}") from error
        if not start:
            raise errors.LoadError(f"{name} is empty; nothing was loaded")
        if start == _ZIP:
            raise errors.LoadError(f"{name} is a zip archive; unpack it and give the files in it")
        if start[:2] in _UTF16:
            raise errors.LoadError(f"{name} is UTF-16; save it as UTF-8 and try again")
        self._counted = _Counted(raw) if start[:2] == _GZIP else None
        self._stream = (
            gzip.GzipFile(fileobj=cast(IO[bytes], self._counted)) if self._counted else raw
        )
        self._position = 0

    @property
    def done(self) -> int:
        """Bytes of the file read so far."""
        return self._raw.tell() if self.total is not None else self._position

    def read(self) -> bytes:
        """The next block of plain bytes; empty at the end. Raises LoadError on a broken gzip."""
        try:
            block = self._stream.read(BLOCK_BYTES)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise errors.LoadError(
                f"{self.name} is a broken gzip file ({error}); fetch it again, nothing was loaded"
            ) from error
        except OSError as error:
            raise errors.LoadError(f"cannot read {self.name}: {error.strerror}") from error
        self._position += len(block)
        if self._counted and self._position > max(BOMB_BYTES, BOMB_RATIO * self._counted.bytes):
            raise errors.LoadError(
                f"{self.name} grows to more than {BOMB_RATIO} times its size, which no table does; "
                "if it is one, unpack it with gunzip and load that; nothing was loaded"
            )
        return block


class _Counted:
    """What gzip reads from, and how many bytes that were."""

    def __init__(self, raw: io.BufferedReader) -> None:
        self._raw = raw
        self.bytes = 0

    def read(self, size: int = -1) -> bytes:
        block = self._raw.read(size)
        self.bytes += len(block)
        return block


@contextmanager
def open_input(path: Path) -> Iterator[InputFile]:
    """Open a CSV file, plain or gzip. Raises LoadError where that is not possible."""
    try:
        file = path.open("rb")
    except OSError as error:
        what = "is a directory; name the file" if path.is_dir() else error.strerror
        raise errors.LoadError(f"cannot read {path}: {what}") from error
    with file:
        # A name may hold bytes that are no text, which the database would not take.
        name = path.name.encode(errors="surrogateescape").decode(errors="replace")
        yield InputFile(file, name, path.stat().st_size if path.is_file() else None)


class Decoder:
    """Bytes to text: UTF-8, or Windows-1252 (which contains Latin-1), decided while reading.

    The first block with bytes beyond ASCII decides: it counts the lines that are UTF-8 and those
    that are not. `strays` are the indices of later lines that are not what the others are.
    """

    def __init__(self) -> None:
        self.encoding: str | None = None

    def lines(self, block: bytes) -> tuple[list[str], list[int]]:
        """The lines of a block, with their ends, and which of them are not UTF-8 as the rest is.

        Only a line feed ends a line.
        """
        if self.encoding != "windows-1252":
            try:
                text = block.decode()
            except UnicodeDecodeError:
                return self._mixed(block)
            if self.encoding is None and not block.isascii():
                self.encoding = "utf-8"
            return split_lines(text), []
        return split_lines(windows_1252(block)), []

    def _mixed(self, block: bytes) -> tuple[list[str], list[int]]:
        lines = io.BytesIO(block).readlines()
        strays = [index for index, line in enumerate(lines) if not _is_utf8(line)]
        if self.encoding is None:
            utf8 = sum(not line.isascii() for line in lines) - len(strays)
            self.encoding = "utf-8" if utf8 > len(strays) else "windows-1252"
        if self.encoding == "windows-1252":
            return split_lines(windows_1252(block)), []
        stray = set(strays)
        return [
            windows_1252(line) if index in stray else line.decode()
            for index, line in enumerate(lines)
        ], strays


def split_lines(text: str) -> list[str]:
    """Split after each line feed; str.splitlines would split at eleven other characters too."""
    return io.StringIO(text, newline="\n").readlines()


def windows_1252(data: bytes) -> str:
    """Decode as browsers do: no byte is refused."""
    try:
        return data.decode("cp1252")
    except UnicodeDecodeError:
        return data.decode("latin-1").translate(_WINDOWS_1252)


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True
