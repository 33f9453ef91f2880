"""Parameters to go on from: those of trained towers, in the shape that today's data need."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tterec.records import FeatureTable
from tterec.towers import model
from tterec.towers.columns import token_count
from tterec.towers.embedding import Towers
from tterec.towers.features import Features
from tterec.towers.histories import rows_of
from tterec.towers.ragged import Index


def carry_over(
    live: Towers,
    items: FeatureTable,
    gates: NDArray[np.float32],
    item_features: Features,
    user_features: Features,
) -> model.Parameters:
    """The live towers' parameters for these items and features, which extend the live ones.

    gates: float32 (items,). With them every item that the live towers know, and whose features
    are what they were, has the vectors that it has now. An item's own row, a value's or a column's
    that is new is zero: a new item starts from its content.
    """
    parameters = {name: tensor.clone() for name, tensor in live.parameters.items()}
    # Stored with gates applied: what other gates make of it must come to the same.
    own = rows_of(live.item_ids, items.ids)
    rows = _rows(live.parameters["item_ids"], np.where(gates > 0, own, -1))
    parameters["item_ids"] = rows / torch.from_numpy(np.where(gates > 0, gates, 1.0))[:, None]
    for side, before, now in (
        ("item", live.item_features, item_features),
        ("user", live.user_features, user_features),
    ):
        parameters[f"{side}_tokens"] = _rows(
            live.parameters[f"{side}_tokens"], _token_rows(before, now)
        )
        dense = np.arange(now.dense_width)
        dense[before.dense_width :] = -1  # new columns come last
        parameters[f"{side}_dense"] = _rows(live.parameters[f"{side}_dense"], dense)
    return parameters


def _token_rows(before: Features, now: Features) -> Index:
    """Where each row of the tokens' table was, -1 for a new one: int64 (tokens,)."""
    rows, first = [], 0
    for place, column in enumerate(now.columns):
        if place >= len(before.columns):
            rows.append(np.full(token_count(column), -1))
            continue
        former = before.columns[place]
        total, known = token_count(former), len(former.get("values", ()))
        added = token_count(column) - total
        # A column's values, then its words' buckets; new values are the last of the values.
        own = np.concatenate([np.arange(known), np.full(added, -1), np.arange(known, total)])
        rows.append(np.where(own >= 0, own + first, -1))
        first += total
    return np.concatenate(rows) if rows else np.zeros(0, dtype=np.int64)


def _rows(table: Tensor, rows: Index) -> Tensor:
    """These rows of a table, zeros for -1: (n, d)."""
    found = torch.zeros((len(rows), table.shape[1]))
    known = torch.from_numpy(rows >= 0)
    found[known] = table[torch.from_numpy(rows[rows >= 0])]
    return found
