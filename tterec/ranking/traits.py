"""What items have in common by their features: an author, a publisher, a genre."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from tterec import encoding
from tterec.records import FeatureTable

MOST_SHARED = 0.05
"""A value that more of the items have than this says little of any of them, and costs much."""


class Trait(NamedTuple):
    """One feature column: which items have which of its values, ones (items, values); the values'
    normalised texts, (values,)."""

    name: str
    values: sparse.csr_array
    texts: tuple[str, ...] = ()


def traits_of(items: FeatureTable) -> list[Trait]:
    """The text and text[] columns, as far as items share their values; none without any."""
    found = []
    for column in items.columns:
        if column.kind in ("text", "text[]"):
            values, texts = _shared(column.values)
            if values.nnz:
                found.append(Trait(column.name, values, texts))
    return found


def _shared(values: NDArray[Any]) -> tuple[sparse.csr_array, tuple[str, ...]]:
    rows = [normalised(value) for value in values]
    counts = Counter(text for row in rows for text in row)
    most = max(2.0, MOST_SHARED * len(rows))
    number = {
        text: place
        for place, text in enumerate(sorted(t for t, n in counts.items() if 2 <= n <= most))
    }
    columns = [[number[text] for text in row if text in number] for row in rows]
    offsets = np.cumsum([0, *map(len, columns)])
    flat = np.array([place for row in columns for place in row], dtype=np.int64)
    matrix = sparse.csr_array((np.ones(len(flat)), flat, offsets), shape=(len(rows), len(number)))
    return matrix, tuple(number)


def normalised(value: Any) -> list[str]:
    """The distinct texts of a text or text[], by which items share them."""
    given = () if value is None else (value,) if isinstance(value, str) else value
    return sorted(encoding.normalised(given))
