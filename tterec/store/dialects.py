"""The dialects of Book-Crossing files, and which column of a file holds what.

Two are published: the original dump (semicolons, every field quoted, backslash escapes, `NULL`,
Latin-1) and the one on Kaggle (commas, doubled quotes, UTF-8). A file's header tells them apart.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from tterec import errors

FileKind = Literal["users", "books", "ratings"]


@dataclass(frozen=True, slots=True)
class Dialect:
    """How fields are separated and quoted. With `escapes`, a backslash escapes the next character.

    Doubled quotes inside a quoted field stand for one in either dialect.
    """

    delimiter: str
    escapes: bool


KAGGLE = Dialect(",", escapes=False)
ORIGINAL = Dialect(";", escapes=True)


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table, its name in Book-Crossing files, other names, and if it must be there.

    Case, blanks, `-` and `_` make no difference in a file's column names.
    """

    name: str
    published: str
    aliases: tuple[str, ...] = ()
    required: bool = False

    @property
    def names(self) -> set[str]:
        """Every spelling, simplified."""
        return {simplified(name) for name in (self.name, self.published, *self.aliases)}


COLUMNS: dict[FileKind, tuple[Column, ...]] = {
    "users": (
        Column("user_id", "User-ID", required=True),
        Column("location", "Location"),
        Column("age", "Age"),
    ),
    "books": (
        Column("isbn", "ISBN", required=True),
        Column("title", "Book-Title", required=True),
        Column("author", "Book-Author"),
        Column("year", "Year-Of-Publication", ("publication_year",)),
        Column("publisher", "Publisher"),
        Column("image_url_s", "Image-URL-S"),
        Column("image_url_m", "Image-URL-M"),
        Column("image_url_l", "Image-URL-L"),
    ),
    "ratings": (
        Column("user_id", "User-ID", required=True),
        Column("isbn", "ISBN", required=True),
        Column("rating", "Book-Rating", required=True),
        Column("rated_at", "Timestamp"),
    ),
}


@dataclass(frozen=True, slots=True)
class Header:
    """What the first line of a file says.

    `positions` are where the columns of COLUMNS stand, in that order; None: not in this file.
    `width` is the number of fields of every record; `ignored` are the columns of no use here.
    """

    dialect: Dialect
    width: int
    positions: tuple[int | None, ...]
    ignored: tuple[str, ...]


def simplified(name: str) -> str:
    """A column's name without what people write differently: case, blanks, `-` and `_`."""
    return re.sub(r"[-_\s]", "", name).casefold()


def read_header(line: str, kind: FileKind, file: str) -> Header:
    """Detect the dialect and find the columns. Raises LoadError if it is not a file of `kind`."""
    if "\r" in line.rstrip("\r\n"):
        raise errors.LoadError(
            f"{file} ends its lines with carriage returns alone, or has one in its first line; "
            "save it with the line ends of Windows or Unix"
        )
    dialect = detected(line)
    names = [name.strip() for name in split(line, dialect) or [line]]
    found = [simplified(name) for name in names]
    positions = []
    for column in COLUMNS[kind]:
        matching = [index for index, name in enumerate(found) if name in column.names]
        if len(matching) > 1:
            twice = " and ".join(names[index] for index in matching)
            raise errors.LoadError(
                f"{file} has two columns for {column.name}, {twice}; remove or rename one"
            )
        if column.required and not matching:
            raise errors.LoadError(_not_of_kind(names, kind, file))
        positions.append(matching[0] if matching else None)
    if kind != "ratings" and _has_all(found, "ratings"):
        raise errors.LoadError(_not_of_kind(names, kind, file))
    known = {position for position in positions if position is not None}
    ignored = tuple(name for index, name in enumerate(names) if index not in known)
    return Header(dialect, len(names), tuple(positions), ignored)


def detected(line: str) -> Dialect:
    """The dialect of a header line."""
    by_semicolon = split(line, ORIGINAL)
    if by_semicolon is None or len(by_semicolon) <= len(split(line, KAGGLE) or ""):
        return KAGGLE
    # Spreadsheets in half of Europe write semicolons too, but nothing that a backslash escapes.
    return ORIGINAL if line.lstrip().startswith('"') else Dialect(";", escapes=False)


def split(line: str, dialect: Dialect) -> list[str] | None:
    """The fields of one line whose quoting may be broken; None if a quote is never closed.

    A quote closes its field only where a delimiter or the line's end follows; others are text.
    """
    line = line.rstrip("\r\n")
    fields, position = [], 0
    while True:
        quoted = line.startswith('"', position)
        start = position + 1 if quoted else position
        end = _end(line, start, dialect, quoted)
        if end is None:
            return None
        text = line[start:end]
        if quoted:
            text = text.replace('""', '"')
            end += 1
        fields.append(re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL) if dialect.escapes else text)
        if end >= len(line):
            return fields
        position = end + 1


def _end(line: str, position: int, dialect: Dialect, quoted: bool) -> int | None:
    """Where the field that starts at `position` ends: at its closing quote, or its delimiter."""
    while position < len(line):
        character, following = line[position], line[position + 1 : position + 2]
        if dialect.escapes and character == "\\":
            position += 1
        elif not quoted and character == dialect.delimiter:
            return position
        elif quoted and character == '"':
            if following in ("", dialect.delimiter):
                return position
            if following == '"':
                position += 1
        position += 1
    return None if quoted else len(line)


def _has_all(found: list[str], kind: FileKind) -> bool:
    return all(column.names & set(found) for column in COLUMNS[kind] if column.required)


def _not_of_kind(names: list[str], kind: FileKind, file: str) -> str:
    wanted = ", ".join(column.published for column in COLUMNS[kind] if column.required)
    shown = "".join(c if c.isprintable() else "?" for c in ", ".join(names)[:200])
    message = f"{file} is not a {kind} file: it needs the columns {wanted} and has {shown}"
    found = [simplified(name) for name in names]
    kinds: tuple[FileKind, ...] = ("ratings", "books", "users")  # the most demanding first
    for other in kinds:
        if other != kind and _has_all(found, other):
            return f"{message}; give it as --{other}"
    if file.endswith(".gz"):
        return f"{message} (and is not gzip, whatever its name says)"
    return message
