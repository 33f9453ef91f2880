"""Records of files as rows for COPY: every value checked, and mended where that is possible.

A row is text of COPY's text format: the record's line number, then the columns of `COLUMNS`.
"""

from __future__ import annotations

import html
import math
import re
import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial

from tterec.store.csv_records import Findings
from tterec.store.dialects import FileKind, Header

Row = Callable[[int, list[str]], str]
"""Makes a row of a line number and a record's fields; raises Unusable."""

OLDEST, YOUNGEST = 110, 5
"""Ages beyond these are slips or jokes: in Book-Crossing there are 28 readers of four, 26 of five
and 18 of six, but 416 of zero; and from 110 on, one or two of every age up to 244."""
MAX_ID = 2**63 - 1
MAX_ISBN = 255
"""Characters; an index entry holds 2,700 bytes, and real ISBNs have ten or thirteen."""

NULL = "\\N"
_NULLS = ("", "NULL")
_INTEGER = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,31});")
_PLAIN_ISBN = re.compile(r"[0-9A-Z]{1,255}")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SPECIAL = re.compile(r"[\\\t\n\r]")
_ESCAPED = {"\\": r"\\", "\t": r"\t", "\n": r"\n", "\r": r"\r"}


class Unusable(Exception):
    """The record cannot be a row; says why, in the words of the summary."""


def row_maker(
    kind: FileKind, header: Header, findings: Findings, *, zero_is_a_rating: bool = False
) -> Row:
    """The function that makes rows of a file's records, telling `findings` what it mended."""
    makers: dict[FileKind, Callable[[Findings], Row]] = {
        "users": _users,
        "books": _books,
        "ratings": partial(_ratings, zero_is_a_rating=zero_is_a_rating),
    }
    row = makers[kind](findings)
    positions = header.positions
    if kind == "ratings" and positions[-1] is None:
        positions = positions[:-1]  # no times: the usual case, and the longest file
    if positions == tuple(range(header.width)):
        return row

    def arranged(line: int, fields: list[str]) -> str:
        return row(line, ["" if at is None else fields[at] for at in positions])

    return arranged


def _users(findings: Findings) -> Row:
    ages = _cached(_number_as_text(YOUNGEST, OLDEST, "age"), findings)

    def row(line: int, fields: list[str]) -> str:
        user, location, age = fields
        if not (user.isascii() and user.isdecimal() and len(user) < 19):
            user = _user_id(user, line, findings)
        location = _text(location, line, findings)
        return f"{line}\t{user}\t{location}\t{ages(age, line)}\n"

    return row


def _books(findings: Findings) -> Row:
    # Publishers date books ahead, but not further than the next season's catalogue.
    years = _cached(_number_as_text(1, datetime.now(UTC).year + 1, "year"), findings)

    def row(line: int, fields: list[str]) -> str:
        isbn = _isbn(fields[0], line, findings)
        title, author, publisher = (_text(fields[at], line, findings) for at in (1, 2, 4))
        year = years(fields[3], line)
        # An address is left as it is: its `&` separates parameters.
        images = (_text(url, line, findings, entities=False) for url in fields[5:])
        return "\t".join((str(line), isbn, title, author, year, publisher, *images)) + "\n"

    return row


def _ratings(findings: Findings, *, zero_is_a_rating: bool) -> Row:
    ratings = _cached(partial(_rating, zero=("0" if zero_is_a_rating else NULL)), findings)

    def row(line: int, fields: list[str]) -> str:
        user, isbn, rating, *times = fields
        if not (user.isascii() and user.isdecimal() and len(user) < 19):
            user = _user_id(user, line, findings)
        if _PLAIN_ISBN.fullmatch(isbn) is None:
            isbn = _isbn(isbn, line, findings)
        rated_at = _moment(times[0], line, findings) if times and times[0] else NULL
        return f"{line}\t{user}\t{isbn}\t{ratings(rating, line)}\t{rated_at}\n"

    return row


def normalised_isbn(isbn: str) -> str:
    """An ISBN as tterec keeps it: upper case, without blanks and hyphens."""
    return re.sub(r"[\s\-\u2010-\u2015]", "", isbn).upper()


def _isbn(value: str, line: int, findings: Findings) -> str:
    isbn = normalised_isbn(value)
    if isbn in _NULLS:
        raise Unusable("no ISBN")
    if len(isbn) > MAX_ISBN:
        raise Unusable(f"ISBN of more than {MAX_ISBN} characters")
    if isbn != value:
        findings.repair(line, "ISBN in lower case or with blanks or hyphens")
    return copy_text(isbn)


def _user_id(value: str, line: int, findings: Findings) -> str:
    text = _trimmed(value, line, findings)
    if text in _NULLS:
        raise Unusable("no user id")
    if _INTEGER.fullmatch(text) is None:
        raise Unusable("user id is not an integer")
    # Twenty characters are enough for any bigint; Python refuses to read thousands of digits.
    digits = text.lstrip("+-").lstrip("0") or "0"
    if len(digits) > 19 or not -MAX_ID - 1 <= int(text[0].strip("+0123456789") + digits) <= MAX_ID:
        raise Unusable("user id is out of range")
    return text[0].strip("+0123456789") + digits


def _text(value: str, line: int, findings: Findings, *, entities: bool = True) -> str:
    text = value.strip()
    if text != value:
        findings.repair(line, "blanks around a value")
    if entities and "&" in text:
        plain = _ENTITY.sub(lambda entity: html.unescape(entity.group()), text)
        if plain != text:
            findings.repair(line, "HTML entity in a text")
            text = plain.strip()
    return NULL if text in _NULLS else copy_text(text)


def copy_text(text: str) -> str:
    """A text as COPY's text format wants it."""
    if _SPECIAL.search(text) is None:
        return text
    return _SPECIAL.sub(lambda special: _ESCAPED[special.group()], text)


def _trimmed(value: str, line: int, findings: Findings) -> str:
    text = value.strip()
    if text != value:
        findings.repair(line, "blanks around a value")
    return text


def _number(text: str) -> float | None:
    """The finite number that a text writes in ASCII; None for any other text."""
    if _NUMBER.fullmatch(text) is None:
        return None
    number = float(text)
    return number if math.isfinite(number) else None


Parsed = tuple[str, str | None]
"""A value for COPY, and what was mended to get it."""


def _cached(parse: Callable[[str], Parsed], findings: Findings) -> Callable[[str, int], str]:
    """Remember the values that need no mending: a column of numbers repeats a few thousand."""
    known: dict[str, str] = {}

    def value(text: str, line: int) -> str:
        found = known.get(text)
        if found is None:
            found, mended = parse(_trimmed(text, line, findings))
            if mended is not None:
                findings.repair(line, mended)
            elif len(known) < 10_000 and text == text.strip():
                known[text] = found
        return found

    return value


def _number_as_text(low: int, high: int, name: str) -> Callable[[str], Parsed]:
    """Parses a whole number between two others; any other becomes NULL."""

    def parse(text: str) -> Parsed:
        if text in _NULLS:
            return NULL, None
        number = _number(text)
        if number is None:
            return NULL, f"{name} that is not a number"
        # pandas writes 34.0 where a column has gaps
        if not low <= number <= high or number != int(number):
            return NULL, f"impossible {name}"
        return str(int(number)), None

    return parse


def _rating(text: str, zero: str) -> Parsed:
    """Parses a rating of 0 to 10; `zero` is what 0 means."""
    if text in _NULLS:
        return NULL, None
    number = _number(text)
    if number is None:
        raise Unusable("rating is not a number")
    if not 0 <= number <= 10:
        raise Unusable("rating is outside 0 to 10")
    # `real` refuses what it cannot hold: 1e-50 would end the whole load.
    (held,) = struct.unpack("f", struct.pack("f", number))
    return (zero if held == 0 else repr(held)), None


def _moment(value: str, line: int, findings: Findings) -> str:
    """A time as COPY reads it, of ISO 8601 (UTC unless it says otherwise) or unix seconds."""
    text = _trimmed(value, line, findings)
    if text in _NULLS:
        return NULL
    try:
        seconds = _number(text)
        # `20241231` is a date; as seconds it would be in August 1970.
        if seconds is not None and not re.fullmatch(r"(19|20)[0-9]{6}", text):
            # Not fromtimestamp, which on Windows refuses what is before 1970.
            moment = _EPOCH + timedelta(seconds=seconds)
        else:
            moment = datetime.fromisoformat(text)
            moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        return moment.astimezone(UTC).isoformat()
    except (ValueError, OverflowError):
        findings.repair(line, "time that cannot be read")
        return NULL
