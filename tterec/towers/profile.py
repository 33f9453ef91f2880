"""A user's features as a program has them, as the table that the user tower takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tterec.encoding import known_values
from tterec.records import Column, FeatureTable, Kind
from tterec.towers.features import Features


def profile_table(features: Features, values: Mapping[str, Any]) -> FeatureTable:
    """One row: feature names with plain values; None, or not named, is unknown.

    What values may be: see `tterec.encoding.known_values`, which raises InvalidArgument.
    """
    kinds: dict[str, Kind] = {fitted["name"]: fitted["kind"] for fitted in features.columns}
    known = known_values(kinds, values)
    columns = [_column(name, kinds[name], value) for name, value in known.items()]
    return FeatureTable(np.zeros(1, dtype=np.int64), tuple(columns))


def _column(name: str, kind: Kind, value: Any) -> Column:
    if kind in ("text", "text[]"):
        row = np.empty(1, dtype=object)
        row[0] = value if kind == "text" else list(value)
        return Column(name, kind, row)
    if kind == "vector":
        with np.errstate(over="ignore"):  # what is infinite is unknown
            return Column(name, kind, np.array([value], dtype=np.float32))
    return Column(name, kind, np.array([value], dtype=np.float64))
