"""The fitted features of a table: every column's, side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tterec.errors import SourceError, TterecError
from tterec.records import Column, FeatureTable
from tterec.towers.columns import (
    Fitted,
    Tokens,
    dense_values,
    dense_width,
    extend_column,
    fit_column,
    is_fitted,
    token_count,
    token_values,
)
from tterec.towers.ragged import Index, offsets_of, spans

DAMAGED = "the stored features of this generation are damaged; train again: tterec train"


@dataclass(frozen=True)
class Encoded:
    """A table as numbers: dense float32 (n, dense width), and each row's tokens."""

    dense: NDArray[np.float32]
    tokens: Tokens

    def __len__(self) -> int:
        return len(self.dense)

    def rows(self, rows: Index) -> Encoded:
        """These rows, in this order."""
        starts = self.tokens.offsets[rows]
        lengths = self.tokens.offsets[rows + 1] - starts
        flat = spans(starts, lengths)
        tokens = Tokens(offsets_of(lengths), self.tokens.ids[flat], self.tokens.weights[flat])
        return Encoded(self.dense[rows], tokens)


@dataclass(frozen=True)
class Features:
    """What training learned of a table's columns. `columns` is JSON-able."""

    columns: tuple[Fitted, ...]

    @classmethod
    def fit(cls, table: FeatureTable) -> Features:
        """Learn means, scales and vocabularies of every column."""
        return cls(tuple(fit_column(column) for column in table.columns))

    @classmethod
    def from_json(cls, columns: Any) -> Features:
        """The features that `columns` of an earlier Features described."""
        if not isinstance(columns, list | tuple) or not all(map(is_fitted, columns)):
            raise TterecError(DAMAGED)
        names = [column["name"] for column in columns]
        if len(set(names)) < len(names):
            raise TterecError(DAMAGED)
        return cls(tuple(columns))

    def extended(self, table: FeatureTable) -> Features:
        """These features, with the values that a table adds to vocabularies; then its new columns.

        What was learned before stays as it is, so that known values mean what they meant.
        """
        given = {column.name: column for column in table.columns}
        known = {fitted["name"] for fitted in self.columns}
        former = (extend_column(fitted, given.get(fitted["name"])) for fitted in self.columns)
        added = (fit_column(column) for column in table.columns if column.name not in known)
        return Features((*former, *added))

    @property
    def dense_width(self) -> int:
        """Dense numbers a row."""
        return sum(map(dense_width, self.columns))

    @property
    def token_count(self) -> int:
        """Rows of the embedding table that the tokens need."""
        return sum(map(token_count, self.columns))

    def encode(self, table: FeatureTable) -> Encoded:
        """The rows of a table as numbers. A column that the table lacks is missing in every row.

        Raises SourceError for a column that training did not see, or saw as another kind.
        """
        given = {column.name: column for column in table.columns}
        self._check(given)
        dense = [np.zeros((len(table), 0), dtype=np.float32)]
        tokens = []
        first = 0
        for fitted in self.columns:
            column = given.get(fitted["name"]) or _missing(fitted, len(table))
            if "mean" in fitted:
                dense.append(dense_values(fitted, column))
            else:
                own = token_values(fitted, column)
                tokens.append(Tokens(own.offsets, own.ids + first, own.weights))
                first += token_count(fitted)
        return Encoded(np.concatenate(dense, axis=1), _merged(tokens, len(table)))

    def _check(self, given: dict[str, Column]) -> None:
        kinds = {fitted["name"]: fitted["kind"] for fitted in self.columns}
        for name, column in given.items():
            if name not in kinds:
                known = ", ".join(kinds) or "none"
                raise SourceError(f"the towers know no feature {name!r}; they know: {known}")
            if column.kind != kinds[name]:
                raise SourceError(
                    f"feature {name} is a {column.kind}, the towers learned a {kinds[name]}; "
                    "train again: tterec train"
                )


def _missing(fitted: Fitted, rows: int) -> Column:
    if "mean" in fitted:
        return Column(fitted["name"], fitted["kind"], np.full((rows, len(fitted["mean"])), np.nan))
    return Column(fitted["name"], fitted["kind"], np.full(rows, None, dtype=object))


def _merged(columns: list[Tokens], rows: int) -> Tokens:
    """The tokens of several columns, row by row."""
    lengths = np.zeros(rows, dtype=np.int64)
    for column in columns:
        lengths += np.diff(column.offsets)
    offsets = offsets_of(lengths)
    ids = np.zeros(offsets[-1], dtype=np.int64)
    weights = np.zeros(offsets[-1], dtype=np.float32)
    starts = offsets[:-1].copy()
    for column in columns:
        own = np.diff(column.offsets)
        places = spans(starts, own)
        ids[places], weights[places] = column.ids, column.weights
        starts += own
    return Tokens(offsets, ids, weights)
