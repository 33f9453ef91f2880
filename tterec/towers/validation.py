"""How good the towers are on interactions that they do not learn from."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tterec.evaluation import ndcg_of_ranks, rmse
from tterec.towers import model
from tterec.towers.batches import with_featureless_row
from tterec.towers.features import Encoded
from tterec.towers.histories import Histories
from tterec.towers.ragged import Index, offsets_of

K = 20
BLOCK = 256
"""Users scored at a time, fewer where they would have more than MOST_SCORES."""
MOST_SCORES = 2**25
"""Scores at a time. With what finds their ranks they take SCORE_BYTES each: 440 MB; without a bound
800,000 items took 2.7 GB."""
SCORE_BYTES = 13
"""A float, a boolean, and what torch makes of that to count it: an int64."""


class Figures(NamedTuple):
    """NDCG@20 over the full catalogue and RMSE of predicted ratings; NaN where undefined."""

    ndcg: float
    rmse: float


def scored_at_once(items: int) -> int:
    """How many users are scored at a time with so many items."""
    return max(min(BLOCK, MOST_SCORES // max(items, 1)), 1)


def validation_bytes(items: int, dim: int) -> int:
    """What ranking among so many items takes: their cores, embeddings and unit vectors, and
    scores."""
    return 3 * 4 * items * dim + SCORE_BYTES * scored_at_once(items) * items


class Validation:
    """The held-out interactions, ready to be ranked by any state of the towers."""

    def __init__(
        self,
        histories: Histories,
        held_out: Histories,
        items: Encoded,
        users: Encoded,
        device: torch.device,
    ) -> None:
        """`held_out` has one interaction each of some users; `histories` all the others."""
        self._histories = histories
        self._users = np.flatnonzero(np.diff(held_out.offsets))
        self._targets = held_out.items.astype(np.int64)
        self._ratings = held_out.ratings
        self._items = items
        table = with_featureless_row(users)
        rows = histories.user_rows[self._users]
        self._profiles = table.rows(np.where(rows < 0, len(table) - 1, rows))
        self._device = device

    def __len__(self) -> int:
        return len(self._users)

    @torch.no_grad()
    def figures(
        self, parameters: model.Parameters, gates: NDArray[np.float32], *, mse: bool
    ) -> Figures:
        """Rank each held-out item among all items that its user has not met."""
        if len(self) == 0:
            return Figures(float("nan"), float("nan"))
        cores = self._feature_sums(self._items, "item", parameters)
        cores += self._tensor(gates)[:, None] * parameters["item_ids"]
        embeddings = cores + parameters["item_base"]
        if not mse:
            embeddings = model.unit(embeddings)
        profiles = self._feature_sums(self._profiles, "user", parameters)
        profiles += parameters["user_base"]
        ranks, scores = [], []
        at_once = scored_at_once(len(self._items))
        for start in range(0, len(self), at_once):
            block = np.arange(start, min(start + at_once, len(self)))
            vectors = self._vectors(block, cores, profiles[start : start + at_once], parameters)
            if not mse:
                vectors = model.unit(vectors)
            block_ranks, block_scores = self._ranks(block, vectors @ embeddings.T)
            ranks.append(block_ranks)
            scores.append(block_scores)
        ndcg = float(ndcg_of_ranks(np.concatenate(ranks), K).mean())
        predicted = np.concatenate(scores).clip(0, 10)
        return Figures(ndcg, rmse(predicted, self._ratings) if mse else float("nan"))

    def _ranks(self, block: Index, scores: Tensor) -> tuple[Index, NDArray[np.float32]]:
        """The held-out items' ranks from 1 (ties by id) and scores, of one block of users."""
        rows = torch.arange(len(block), device=scores.device)
        targets = self._tensor(self._targets[block])
        own = scores[rows, targets]
        positions, lengths = self._histories.known_spans(self._users[block])
        met = self._tensor(self._histories.items[positions].astype(np.int64))
        scores[torch.repeat_interleave(rows, self._tensor(lengths)), met] = -torch.inf
        better = (scores > own[:, None]).sum(dim=1)
        level = (scores >= own[:, None]).sum(dim=1) - better
        for row in (level > 1).nonzero()[:, 0].tolist():
            better[row] += (scores[row, : targets[row]] == own[row]).sum()
        return 1 + better.cpu().numpy(), own.cpu().numpy()

    def _vectors(
        self, block: Index, cores: Tensor, profiles: Tensor, parameters: model.Parameters
    ) -> Tensor:
        history, lengths = self._histories.history_spans(self._users[block])
        histories = model.HistoryItems(
            items=self._tensor(self._histories.items[history].astype(np.int64)),
            buckets=self._tensor(self._histories.buckets[history].astype(np.int64)),
            offsets=self._tensor(offsets_of(lengths)[:-1]),
            lengths=self._tensor(lengths),
        )
        sums = model.sum_histories(histories, cores, parameters)
        return model.user_vectors(profiles, sums, parameters)

    def _feature_sums(self, rows: Encoded, side: str, parameters: model.Parameters) -> Tensor:
        bags = model.Bags(
            tokens=self._tensor(rows.tokens.ids),
            offsets=self._tensor(rows.tokens.offsets[:-1]),
            weights=self._tensor(rows.tokens.weights),
            dense=self._tensor(rows.dense),
        )
        return model.feature_sums(bags, parameters[f"{side}_tokens"], parameters[f"{side}_dense"])

    def _tensor(self, values: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(values).to(self._device)
