"""From one feature column to numbers that a linear tower can take.

A column becomes dense numbers, tokens (rows of an embedding table, with weights), or neither.
What was learned from a column in training (means, vocabularies) is a plain dictionary, stored
with the generation, and applies to columns seen later.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tterec.encoding import finite, normalised, standardised, word_buckets, words
from tterec.errors import SourceError
from tterec.records import Column
from tterec.towers.ragged import Index, offsets_of, spans

LARGEST_VOCABULARY = 50_000
"""Most frequent values that have a row of their own."""
MANY_VALUES = 1000
"""A text column with more values than this is met by its words as well as by its values."""
_NUMBERS = ("number", "boolean", "date", "vector")
_TEXTS = ("text", "text[]")
LEAST_BUCKETS, MOST_BUCKETS = 2**6, 2**15

Fitted = dict[str, Any]


@dataclass(frozen=True)
class Tokens:
    """Rows' tokens: ids int64 (t,) and weights float32 (t,), row i from offsets[i] (n + 1)."""

    offsets: Index
    ids: Index
    weights: NDArray[np.float32]


def fit_column(column: Column) -> Fitted:
    """Learn a column's means or vocabularies; a JSON-able dictionary for apply_column."""
    fitted: Fitted = {"name": column.name, "kind": column.kind}
    if column.kind in _NUMBERS:
        values = finite(column.values)
        known = ~np.isnan(values).any(axis=1)
        mean, scale = _moments(values[known])
        return fitted | {"mean": mean.tolist(), "scale": scale.tolist()}
    counts = _counts(column)
    if column.kind == "text[]":
        return fitted | {"values": _vocabulary(counts), "buckets": 0}
    repeats = counts.total() >= 2 * len(counts)
    by_words = not repeats or len(counts) > MANY_VALUES
    return fitted | {
        "values": _vocabulary(counts) if repeats else [],
        "buckets": _buckets(counts) if by_words and counts else 0,
    }


def is_fitted(stored: Any) -> bool:
    """Whether this is what fit_column made of some column: stored, it may be damaged."""
    if not isinstance(stored, dict) or not isinstance(stored.get("name"), str):
        return False
    kind = stored.get("kind")
    if kind in _TEXTS:
        values, buckets = stored.get("values"), stored.get("buckets")
        return (
            stored.keys() == {"name", "kind", "values", "buckets"}
            and isinstance(values, list)
            and all(isinstance(value, str) for value in values)
            and len(set(values)) == len(values)
            and type(buckets) is int
            and 0 <= buckets <= MOST_BUCKETS
        )
    if kind not in _NUMBERS or stored.keys() != {"name", "kind", "mean", "scale"}:
        return False
    lists = (stored["mean"], stored["scale"])
    return (
        all(isinstance(numbers, list) and all(map(_is_finite, numbers)) for numbers in lists)
        and len(lists[0]) == len(lists[1])
        and (kind == "vector" or len(lists[0]) == 1)
        and all(scale > 0 for scale in lists[1])
    )


def _is_finite(number: Any) -> bool:
    return type(number) in (int, float) and abs(number) < float("inf")


def extend_column(fitted: Fitted, column: Column | None) -> Fitted:
    """What was learned of a column, with the shared values that came since behind the known ones.

    Means, scales and buckets stay; a column met by its words alone goes on so.
    """
    if column is None or column.kind != fitted["kind"] or "values" not in fitted:
        return fitted
    if column.kind == "text" and not fitted["values"]:
        return fitted
    known = set(fitted["values"])
    added = [text for text in _vocabulary(_counts(column)) if text not in known]
    return fitted | {"values": [*fitted["values"], *added][:LARGEST_VOCABULARY]}


def dense_width(fitted: Fitted) -> int:
    """How many dense numbers a fitted column gives: its own and the missing flag."""
    return len(fitted["mean"]) + 1 if "mean" in fitted else 0


def token_count(fitted: Fitted) -> int:
    """How many rows of an embedding table a fitted column's tokens need."""
    return len(fitted["values"]) + int(fitted["buckets"]) if "values" in fitted else 0


def dense_values(fitted: Fitted, column: Column) -> NDArray[np.float32]:
    """A column's standardised numbers and missing flag: float32 (n, dense_width)."""
    values = finite(column.values)
    width = len(fitted["mean"])
    if values.shape[1] != width:
        raise SourceError(
            f"column {column.name} has vectors of {values.shape[1]} numbers, training saw {width}; "
            "train again: tterec train"
        )
    return standardised(values, np.array(fitted["mean"]), np.array(fitted["scale"]))


def token_values(fitted: Fitted, column: Column) -> Tokens:
    """A column's tokens, ids from 0 to token_count; unknown values have none."""
    number = {text: position for position, text in enumerate(fitted["values"])}
    buckets = int(fitted["buckets"])
    lists = list(_distinct(column))
    place = {texts: position for position, texts in enumerate(lists)}
    ids: list[int] = []
    weights: list[float] = []
    lengths = np.zeros(len(lists), dtype=np.int64)
    for position, texts in enumerate(lists):
        known = [number[text] for text in texts if text in number]
        hashed = [len(number) + bucket for bucket in word_buckets(texts, buckets)]
        for group in (known, hashed):
            ids += group
            weights += [max(len(group), 1) ** -0.5] * len(group)
        lengths[position] = len(known) + len(hashed)
    rows = np.array([place[key] for key in map(_texts(column), column.values)], dtype=np.int64)
    starts = offsets_of(lengths)[:-1]
    flat = spans(starts[rows], lengths[rows])
    return Tokens(
        offsets_of(lengths[rows]),
        np.array(ids, dtype=np.int64)[flat],
        np.array(weights, dtype=np.float32)[flat],
    )


def _moments(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and scale of each column (width,); 0 and 1 where there is nothing to standardise."""
    width = values.shape[1]
    if len(values) == 0:
        return np.zeros(width), np.ones(width)
    with np.errstate(over="ignore", invalid="ignore"):
        mean, scale = values.mean(axis=0), values.std(axis=0)
    usable = np.isfinite(mean) & np.isfinite(scale)
    # A constant column's deviation is rounding noise in the last digits of its mean.
    varied = usable & (scale > 1e-9 * np.maximum(1.0, np.abs(mean)))
    return np.where(usable, mean, 0.0), np.where(varied, scale, 1.0)


def _texts(column: Column) -> Callable[[Any], tuple[str, ...]]:
    """How to read one value of the column: as its distinct normalised texts."""
    if column.kind == "text[]":
        return lambda value: normalised(value or ())
    return lambda value: normalised(() if value is None else (value,))


def _distinct(column: Column) -> Counter[tuple[str, ...]]:
    return Counter(map(_texts(column), column.values))


def _counts(column: Column) -> Counter[str]:
    """In how many rows each text stands."""
    counts = Counter[str]()
    for texts, rows in _distinct(column).items():
        for text in texts:
            counts[text] += rows
    return counts


def _vocabulary(counts: Counter[str]) -> list[str]:
    """Values that occur at least twice, most frequent first; ties by value."""
    shared = [text for text, rows in counts.items() if rows >= 2]
    return sorted(shared, key=lambda text: (-counts[text], text))[:LARGEST_VOCABULARY]


def _buckets(counts: Counter[str]) -> int:
    """Hash buckets for the words of these texts: a power of two, twice the number of words."""
    distinct = {word for text in counts for word in words(text)}
    buckets = LEAST_BUCKETS
    while buckets < min(2 * len(distinct), MOST_BUCKETS):
        buckets *= 2
    return buckets
