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
from typing import Any, TextIO

from tterec.errors import InvalidArgument
from tterec.records import Recommendation

FORMATS = ("table", "json", "csv")
_COLUMNS = tuple(Recommendation.__dataclass_fields__)
_NARROWEST_TITLE = 12


def write_list(out: TextIO, found: Sequence[Recommendation], style: str) -> None:
    """Write one ranked list in one of FORMATS."""
    if style == "json":
        write_json(out, found)
    elif style == "csv":
        write_csv(out, _COLUMNS, (_values(one) for one in found))
    else:
        out.writelines(line + "\n" for line in table(found, _width(out)))


def write_json(out: TextIO, found: Sequence[Recommendation]) -> None:
    """A list of objects with the SQL columns' names, one object a line."""
    import json

    # Where the stream is not Unicode (a Windows console), escapes are still the same JSON.
    plain = "utf" not in (getattr(out, "encoding", None) or "utf-8").lower()
    objects = [json.dumps(asdict(one), ensure_ascii=plain) for one in found]
    out.write("[\n  " + ",\n  ".join(objects) + "\n]\n" if objects else "[]\n")


def write_csv(out: TextIO, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A header and rows; what is None is empty."""
    import csv

    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)


def _values(one: Recommendation) -> list[Any]:
    return [getattr(one, column) for column in _COLUMNS]


def table(found: Sequence[Recommendation], width: int | None = None) -> Iterator[str]:
    """Lines: rank, title, ISBN, score. Titles are cut where a line would pass `width` columns."""
    # By hand: importing a table library takes as long as the recommendation itself.
    rows = [
        (str(one.rank), printable(one.title or "(no title)"), printable(one.isbn), score)
        for one in found
        for score in [f"{one.score:.4f}"]
    ]
    heads = ("#", "title", "isbn", "score")
    widths = [max(columns(row[i]) for row in [heads, *rows]) for i in range(len(heads))]
    if width is not None:
        others = sum(widths) - widths[1] + 2 * (len(heads) - 1)
        widths[1] = min(widths[1], max(width - others, _NARROWEST_TITLE))
    for rank, title, isbn, score in [heads, *rows]:
        yield "  ".join(
            (
                rank.rjust(widths[0]),
                padded(cut(title, widths[1]), widths[1]),
                padded(isbn, widths[2]),
                score.rjust(widths[3]),
            )
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


def _width(out: TextIO) -> int | None:
    """Columns of the terminal; None where the output goes elsewhere and nothing need be cut."""
    return shutil.get_terminal_size().columns if out.isatty() else None


@contextmanager
def output(path: Path | None) -> Iterator[TextIO]:
    """Stdout, or a file that appears, whole, when the block ends, and not if it fails."""
    if path is None:
        # A title that this terminal cannot show is no reason to show none.
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="replace")
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
