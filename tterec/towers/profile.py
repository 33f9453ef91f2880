"""A user's features as a program has them, as the table that the user tower takes."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

import numpy as np

from tterec.errors import InvalidArgument
from tterec.records import Column, FeatureTable, Kind
from tterec.towers.features import Features

_EPOCH = datetime.date(1970, 1, 1)
_ACCEPTED: dict[Kind, tuple[str, tuple[type, ...]]] = {
    "number": ("a number", (int, float)),
    "boolean": ("true or false", (bool,)),
    "date": ("a date", (datetime.date,)),
    "text": ("a text", (str,)),
    "text[]": ("a list of texts", (list, tuple)),
    "vector": ("a list of numbers", (list, tuple, np.ndarray)),
}


def profile_table(features: Features, values: Mapping[str, Any]) -> FeatureTable:
    """One row: feature names with plain values; None, or not named, is unknown.

    number: int or float; boolean: bool; date: date or datetime; text: str; text[]: list of str;
    vector: list of float. Raises InvalidArgument for a feature that training did not see, or a
    value of another type.
    """
    kinds: dict[str, Kind] = {fitted["name"]: fitted["kind"] for fitted in features.columns}
    for name in values:
        if name not in kinds:
            known = ", ".join(kinds) or "none"
            raise InvalidArgument(f"the user tower knows no feature {name!r}; it knows: {known}")
    columns = [
        _column(name, kinds[name], value) for name, value in values.items() if value is not None
    ]
    return FeatureTable(np.zeros(1, dtype=np.int64), tuple(columns))


def _column(name: str, kind: Kind, value: Any) -> Column:
    if not _fits(kind, value):
        wanted = _ACCEPTED[kind][0]
        raise InvalidArgument(f"{name} = {value!r} is not {wanted}; pass {wanted}, or None")
    if kind in ("text", "text[]"):
        row = np.empty(1, dtype=object)
        row[0] = value if kind == "text" else list(value)
        return Column(name, kind, row)
    if kind == "vector":
        return Column(name, kind, np.array([value], dtype=np.float32))
    if kind == "date":
        day = value.date() if isinstance(value, datetime.datetime) else value
        value = (day - _EPOCH).days
    return Column(name, kind, np.array([value], dtype=np.float64))


def _fits(kind: Kind, value: Any) -> bool:
    right = isinstance(value, _ACCEPTED[kind][1])
    if not right:
        return False
    if kind == "text[]":
        return all(isinstance(part, str) for part in value)
    if kind == "vector":
        return all(isinstance(part, (int, float, np.number)) for part in value)
    # True is an int to Python, but not a number to a person.
    return kind == "boolean" or not isinstance(value, bool)
