"""What a value of a feature becomes, by its kind: numbers, or tokens of a text.

The towers apply this to whole columns, serving to one profile; `sql/functions/` says the same in
SQL.
"""

from __future__ import annotations

import datetime
import hashlib
import math
import re
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tterec.errors import InvalidArgument
from tterec.records import Kind

CLIP = 4.0
"""Standardised numbers end here: a price of a million must not drown the rest."""
LONGEST_TEXT = 64
"""Distinct words of a value that count; a title has 6, a blurb 100."""
_WORD = re.compile(r"\w+")

_EPOCH = datetime.date(1970, 1, 1)
_ACCEPTED: dict[Kind, tuple[str, tuple[type, ...]]] = {
    "number": ("a number", (int, float)),
    "boolean": ("true or false", (bool,)),
    "date": ("a date", (datetime.date,)),
    "text": ("a text", (str,)),
    "text[]": ("a list of texts", (list, tuple)),
    "vector": ("a list of numbers", (list, tuple, np.ndarray)),
}


def normalised(texts: Iterable[str | None]) -> tuple[str, ...]:
    """The distinct texts without case, with single spaces; empty ones are none."""
    plain = (" ".join(text.casefold().split()) for text in texts if text is not None)
    return tuple(dict.fromkeys(text for text in plain if text))


def words(text: str) -> list[str]:
    """The first distinct words of a text, in order."""
    return list(dict.fromkeys(_WORD.findall(text)))[:LONGEST_TEXT]


def bucket(word: str, buckets: int) -> int:
    """The hash bucket of a word, 0 to buckets - 1."""
    # Python's hash() differs from process to process.
    return zlib.crc32(word.encode("utf-8", "surrogatepass")) % buckets


def word_buckets(texts: Iterable[str], buckets: int) -> list[int]:
    """The distinct hash buckets of the words of some texts, ascending; none without buckets."""
    if not buckets:
        return []
    return sorted({bucket(word, buckets) for text in texts for word in words(text)})


def token_key(text: str) -> str:
    """By which a vocabulary's text is kept: it may exceed what an index entry can hold."""
    return hashlib.md5(text.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()


def finite(values: NDArray[Any]) -> NDArray[np.float64]:
    """Numbers as columns (n, width), infinite ones turned into missing ones."""
    numbers = np.asarray(values, dtype=np.float64)
    if numbers.ndim == 1:
        numbers = numbers[:, None]
    return np.where(np.isfinite(numbers), numbers, np.nan)


def standardised(
    values: NDArray[np.float64], mean: NDArray[np.float64], scale: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Numbers (n, width), NaN where missing, as a tower takes them, with a flag: (n, width + 1)."""
    missing = np.isnan(values).any(axis=1)
    # A vector's numbers together weigh as much as one number.
    numbers = np.clip((values - mean) / scale, -CLIP, CLIP) / math.sqrt(max(values.shape[1], 1))
    numbers[missing] = 0.0
    return np.column_stack([numbers, missing]).astype(np.float32)


def known_values(kinds: Mapping[str, Kind], values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a profile's values that are not None; a date as days since 1970, and all else as is.

    number: int or float; boolean: bool; date: date or datetime; text: str; text[]: list of str;
    vector: list of float. Raises InvalidArgument for a feature that `kinds` lacks, or a value of
    another type.
    """
    for name in values:
        if name not in kinds:
            known = ", ".join(kinds) or "none"
            raise InvalidArgument(f"the user tower knows no feature {name!r}; it knows: {known}")
    return {
        name: _plain(name, kinds[name], value)
        for name, value in values.items()
        if value is not None
    }


def _plain(name: str, kind: Kind, value: Any) -> Any:
    if not _fits(kind, value):
        wanted = _ACCEPTED[kind][0]
        raise InvalidArgument(f"{name} = {value!r} is not {wanted}; pass {wanted}, or None")
    if kind == "date":
        day = value.date() if isinstance(value, datetime.datetime) else value
        return float((day - _EPOCH).days)
    return value


def _fits(kind: Kind, value: Any) -> bool:
    right = isinstance(value, _ACCEPTED[kind][1])
    if not right:
        return False
    if kind == "text[]":
        return all(isinstance(part, str) for part in value)
    if kind == "vector":
        return all(isinstance(part, (int, float, np.number)) for part in value)
    if kind == "number":
        # True is an int to Python, but not a number to a person.
        return not isinstance(value, bool) and _is_float(value)
    return kind == "boolean" or not isinstance(value, bool)


def _is_float(value: float) -> bool:
    try:
        float(value)
    except OverflowError:  # an int of 400 digits
        return False
    return True
