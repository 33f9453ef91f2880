"""Features of any table as LightFM takes them: a matrix of tokens."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
from scipy import sparse

from tterec.records import Column, FeatureTable

RARE = 3
"""A token that fewer rows have says nothing that the row's own identity does not."""
_BINS = 8


def tokens(table: FeatureTable) -> sparse.csr_matrix:
    """float32 (rows, tokens), 1 where a row has a token; in the table's order of rows."""
    rows: list[int] = []
    columns: list[int] = []
    known: dict[tuple[str, str], int] = {}
    for column in table.columns:
        for row, token in _column_tokens(column):
            rows.append(row)
            columns.append(known.setdefault((column.name, token), len(known)))
    shape = (len(table), len(known))
    matrix = sparse.csr_matrix((np.ones(len(rows), dtype=np.float32), (rows, columns)), shape=shape)
    matrix.data[:] = 1  # a word that comes twice
    frequent = np.flatnonzero(matrix.getnnz(axis=0) >= RARE)
    return matrix[:, frequent]


def _column_tokens(column: Column) -> Iterator[tuple[int, str]]:
    """Texts as a whole, their parts between commas and, of titles, their words; numbers' octiles.

    Raises NotImplementedError for other kinds: no set of ours has any.
    """
    if column.kind == "number":
        edges = np.nanquantile(column.values, np.linspace(0, 1, _BINS + 1)[1:-1])
        for row in np.flatnonzero(~np.isnan(column.values)).tolist():
            yield row, str(np.searchsorted(edges, column.values[row]))
        return
    if column.kind != "text":
        raise NotImplementedError(f"column {column.name} is {column.kind}; tokens know texts")
    for row, text in enumerate(column.values):
        if text is not None:
            folded = text.casefold()
            yield row, folded
            for part in {part.strip() for part in folded.split(",")} - {folded}:
                yield row, part
            if column.name == "title":
                yield from ((row, word) for word in set(re.findall(r"\w+", folded)) - {folded})
