"""The records of a CSV file, each with the number of its first line, whatever its bytes are."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Protocol

from tterec import errors
from tterec.store.csv_lines import MAX_BYTES, Decoder, InputFile
from tterec.store.dialects import Dialect, FileKind, read_header, split

MAX_FIELD = 131_072
"""Characters of a field; the csv module's own limit, unless another library moved it."""
MAX_RAW = 10_000
"""Characters kept of a rejected record."""

_BOM = b"\xef\xbb\xbf"
_CUT = "\0\n"  # stands for a line that was too long; no other line with a NUL is accepted either


class Findings(Protocol):
    """Who is told what was wrong with a record. Lines count from 1."""

    def repair(self, line: int, what: str) -> None:
        """The record that starts there is kept, mended."""

    def reject(self, line: int, reason: str, raw: str) -> None:
        """The record that starts there cannot be kept; `raw` is its text."""


class _TooLong(Exception):
    """A record goes on for longer than MAX_BYTES: its quote was never meant to open."""


class _Lines:
    """Blocks of lines, remembering those from the start of the record that is being read.

    All indices count the file's lines from 0; the record is the lines `start` to `end`.
    """

    def __init__(self, file: InputFile) -> None:
        self._file, self._decoder = file, Decoder()
        self._rest: bytes | None = None
        self._window: list[str] = []
        self._first = 0
        self.start = self.end = 0
        self.odd = False
        """Whether any line so far has a NUL, was cut, or is not in the file's encoding."""
        self.seeks_header = True
        """A header that is too long ends the reading: its line may have no end (/dev/zero)."""
        self._cut: dict[int, str] = {}
        self._strays: set[int] = set()

    def __iter__(self) -> Iterator[list[str]]:
        return self

    def __next__(self) -> list[str]:
        kept = self._window[self.start - self._first :]
        if sum(map(len, kept)) > MAX_BYTES:
            raise _TooLong
        self._window, self._first = kept, self.start
        self._cut = {index: text for index, text in self._cut.items() if index >= self.start}
        self._strays = {index for index in self._strays if index >= self.start}
        lines = self._read(self.start + len(kept))
        self._window = kept + lines
        return lines

    def _read(self, index: int) -> list[str]:
        """The next lines, of which the first has this index; none too long to be a record."""
        data = b"" if self._rest is None else self._rest
        while (at := data.rfind(b"\n")) < 0 and len(data) <= MAX_BYTES:
            block = self._file.read()
            if self._rest is None:
                block = block.removeprefix(_BOM)
                self._rest = b""
            if not block:
                if not data:
                    raise StopIteration
                at = len(data)
                break
            data += block
        if at < 0:
            return self._cut_line(data, index)
        block, self._rest = data[: at + 1], data[at + 1 :]
        lines, strays = self._decoder.lines(block)
        if strays or b"\0" in block:
            self.odd = True
            self._strays.update(index + stray for stray in strays)
        return lines

    def _cut_line(self, data: bytes, index: int) -> list[str]:
        self.odd = True
        self._cut[index] = data[:MAX_RAW].decode(errors="replace")
        self._rest = b""
        while not self.seeks_header and (block := self._file.read()):
            at = block.find(b"\n")
            if at >= 0:
                self._rest = block[at + 1 :]
                break
        return [_CUT]

    def from_end(self) -> Iterator[str]:
        """The lines after the record, as if none of them had been read."""
        return chain(self._window[self.end - self._first :], chain.from_iterable(self))

    def record(self) -> list[str]:
        """The lines of the record."""
        return self._window[self.start - self._first : self.end - self._first]

    def raw(self) -> str:
        """The record as it stands in the file, without its line end; cut, if it is long."""
        text = "".join(
            self._cut.get(index, line) for index, line in enumerate(self.record(), self.start)
        )
        text = text.rstrip("\r\n").replace("\0", "\N{SYMBOL FOR NULL}")
        return text if len(text) <= MAX_RAW else text[:MAX_RAW] + "…"

    def fault(self) -> str | None:
        """What makes the record's lines unusable, if anything does."""
        if any(index in self._cut for index in range(self.start, self.end)):
            return "longer than 1 MiB"
        return "NUL byte" if any("\0" in line for line in self.record()) else None

    def is_stray(self) -> bool:
        """Whether a line of the record is not in the file's encoding."""
        return any(index in self._strays for index in range(self.start, self.end))


class Records:
    """Iterates over (line, fields) of the records that have as many fields as the header.

    The others go to `findings`, and are counted: `count` is the number of records so far, blank
    lines excluded. A quote that is never closed costs its own line only: reading resumes with
    the next one. Raises LoadError if the file is not of this kind, or is a broken gzip.
    """

    def __init__(self, file: InputFile, kind: FileKind, findings: Findings) -> None:
        self._findings = findings
        self._lines = _Lines(file)
        for line in chain.from_iterable(self._lines):
            self._lines.end += 1
            if line == _CUT:
                raise errors.LoadError(f"{file.name} is no CSV file: its first line has no end")
            if line.strip():
                break
        else:
            raise errors.LoadError(f"{file.name} holds nothing but blank lines; nothing was loaded")
        self._lines.seeks_header = False
        self.header = read_header(line, kind, file.name)
        self._lines.start = self._lines.end
        self.count = 0

    def raw(self) -> str:
        """The text of the record that was yielded last."""
        return self._lines.raw()

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        lines, width, dialect = self._lines, self.header.width, self.header.dialect
        while True:
            before = lines.start
            reader = _reader(lines.from_end(), dialect)
            try:
                for fields in reader:
                    lines.end = before + reader.line_num
                    if len(fields) == width and not lines.odd:
                        self.count += 1
                        yield lines.start + 1, fields
                    elif (fields and len(fields) != 1) or not _is_blank(lines.record()):
                        yield from self._checked(fields)
                    lines.start = lines.end
                return
            except (csv.Error, _TooLong):
                lines.end = lines.start + 1
                yield from self._mended()
                lines.start = lines.end

    def _checked(self, fields: list[str]) -> Iterator[tuple[int, list[str]]]:
        """The record, if its lines are usable and its fields as many as they should be."""
        self.count += 1
        line = self._lines.start + 1
        fault = self._lines.fault()
        if fault is None and len(fields) != self.header.width:
            fault = "wrong number of fields"
        if fault is not None:
            self._findings.reject(line, fault, self.raw())
            return
        if self._lines.is_stray():
            self._findings.repair(line, "byte that is not UTF-8, read as Windows-1252")
        yield line, fields

    def _mended(self) -> Iterator[tuple[int, list[str]]]:
        """The first line of what the csv module refuses, on its own."""
        fields = split(self._lines.record()[0], self.header.dialect)
        line, fault = self._lines.start + 1, None
        if fields is None:
            fault = "quote that is never closed"
        elif max(map(len, fields)) > MAX_FIELD:
            fault = f"field of more than {MAX_FIELD} characters"
        if fields is None or fault is not None:
            self.count += 1
            self._findings.reject(line, self._lines.fault() or fault or "", self.raw())
            return
        for record in self._checked(fields):
            self._findings.repair(line, "stray quote or line break kept as text")
            yield record


def _reader(lines: Iterable[str], dialect: Dialect) -> csv._reader:  # type: ignore[name-defined]
    return csv.reader(
        lines,
        delimiter=dialect.delimiter,
        escapechar="\\" if dialect.escapes else None,
        strict=True,
    )


def _is_blank(lines: list[str]) -> bool:
    return not "".join(lines).strip()
