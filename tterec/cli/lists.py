"""Ranked lists as a table for people, as JSON or as CSV; and where they are written."""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO, TypeVar

from tterec.errors import InvalidArgument
from tterec.records import Contribution, Recommendation, User

FORMATS = ("table", "json", "csv")
MANY = ("user_id", "isbn", "rank", "score")
_NARROWEST_TITLE = 12

Record = TypeVar("Record", Recommendation, Contribution)


def write_list(out: TextIO, found: Sequence[Recommendation], style: str) -> None:
    """Write one ranked list in one of FORMATS."""
    if style == "table":
        out.writelines(line + "\n" for line in table(found, width_of(out)))
    else:
        write_records(out, Recommendation, found, style)


def write_records(out: TextIO, kind: type[Record], found: Sequence[Record], style: str) -> None:
    """Write records of a data class as JSON, or as CSV with the fields' names as its header."""
    if style == "json":
        write_json(out, found)
    else:
        names = tuple(kind.__dataclass_fields__)
        write_csv(out, names, ([getattr(one, name) for name in names] for one in found))


def write_json(out: TextIO, found: Sequence[Recommendation | Contribution]) -> None:
    """A list of objects with the SQL columns' names, one object a line."""
    import json

    # Where the stream is not Unicode (a Windows console), escapes are still the same JSON.
    plain = "utf" not in (getattr(out, "encoding", None) or "utf-8").lower()
    objects = [json.dumps(asdict(one), ensure_ascii=plain) for one in found]
    out.write("[\n  " + ",\n  ".join(objects) + "\n]\n" if objects else "[]\n")


class _UnixLines:
    """Rows whose end is that of Windows, written with that of Unix."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def write(self, row: str) -> int:
        return self._out.write(row[:-2] + "\n")


def csv_writer(out: TextIO) -> Any:
    """A writer of rows of CSV, each ended by a line feed.

    Fields with a carriage return are quoted: csv's own writer does so only where rows end in one.
    """
    import csv

    return csv.writer(_UnixLines(out), lineterminator="\r\n")


def write_csv(out: TextIO, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A header and rows; what is None is empty."""
    writer = csv_writer(out)
    writer.writerow(header)
    writer.writerows(rows)


def write_many(out: TextIO, found: Iterable[tuple[User, list[Recommendation]]]) -> None:
    """Users' lists as rows of CSV, without a header."""
    writer = csv_writer(out)
    for user, one in found:
        writer.writerows([(user, x.isbn, x.rank, f"{x.score:.6f}") for x in one])


def table(found: Sequence[Recommendation], width: int | None = None) -> Iterator[str]:
    """Lines: rank, title, ISBN, score. Titles are cut where a line would pass `width` columns."""
    # By hand: importing a table library takes as long as the recommendation itself.
    rows = [
        (str(one.rank), printable(one.title or "(no title)"), printable(one.isbn or "-"), score)
        for one in found
        for score in [f"{one.score:.4f}"]
    ]
    yield from aligned(("#", "title", "isbn", "score"), rows, width)


def aligned(
    heads: Sequence[str], rows: Sequence[Sequence[str]], width: int | None = None
) -> Iterator[str]:
    """Rows under their heads in columns; title and ISBN to the left, all else to the right.

    Titles are cut where a line would pass `width` columns.
    """
    widths = [max(columns(row[i]) for row in [heads, *rows]) for i in range(len(heads))]
    title = heads.index("title")
    if width is not None:
        others = sum(widths) - widths[title] + 2 * (len(heads) - 1)
        widths[title] = min(widths[title], max(width - others, _NARROWEST_TITLE))
    for row in [heads, *rows]:
        yield "  ".join(
            padded(cut(text, wide), wide) if head in ("title", "isbn") else text.rjust(wide)
            for head, text, wide in zip(heads, row, widths, strict=True)
        )


def printable(text: str) -> str:
    """The text on one line, without characters that would move a terminal's cursor."""
    return "".join(" " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in text)


def columns(text: str) -> int:
    """How many columns of a terminal the text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0
        if unicodedata.combining(c) or unicodedata.category(c) in ("Cf", "Me")
        else 2
        if unicodedata.east_asian_width(c) in "WF"
        else 1
        for c in text
    )


def cut(text: str, width: int) -> str:
    """The text, or its beginning and an ellipsis, in at most `width` columns."""
    if columns(text) <= width:
        return text
    while text and columns(text) > width - 1:
        text = text[:-1]
    return text.rstrip() + "…"


def padded(text: str, width: int) -> str:
    """The text with blanks up to `width` columns."""
    return text + " " * (width - columns(text))


def width_of(out: TextIO) -> int | None:
    """Columns of the terminal; None where the output goes elsewhere and nothing need be cut."""
    return shutil.get_terminal_size().columns if out.isatty() else None


@contextmanager
def output(path: Path | None, style: str = "table") -> Iterator[TextIO]:
    """Stdout, or a file that appears, whole, when the block ends, and not if it fails.

    CSV has the same bytes in a pipe as in a file, on every system.
    """
    if path is None:
        if style == "csv" and not sys.stdout.isatty() and hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(encoding="utf-8", newline="\n")
        yield sys.stdout
        sys.stdout.flush()
        return
    target = path.resolve()  # a link stays a link to the file that is replaced
    if target.is_dir():
        raise InvalidArgument(f"-o {path} is a directory; name a file in it")
    try:
        if target.exists() and not target.is_file():  # /dev/null, a pipe: nothing to replace
            with target.open("w", encoding="utf-8", newline="") as out:
                yield out
            return
        partial = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            with partial.open("w", encoding="utf-8", newline="") as out:
                yield out
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise InvalidArgument(f"cannot write {path}: {error.strerror}") from error
