"""One step of learning: a batch in, better parameters out."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tterec.config import TrainingConfig
from tterec.errors import TrainingError
from tterec.towers import losses, model
from tterec.towers.batches import Batch, Side
from tterec.towers.optimiser import RowAdamW

MOST_SCALE = 100.0
"""The temperature is learned, but not below 0.01: losses overflow beyond."""


class Learner:
    """Parameters, and an optimiser that moves them batch by batch."""

    def __init__(
        self,
        parameters: model.Parameters,
        config: TrainingConfig,
        item_shares: NDArray[np.float64],
        device: torch.device,
    ) -> None:
        """item_shares: float64 (items,), each item's share of the interactions learned from."""
        self.parameters = {name: tensor.to(device) for name, tensor in parameters.items()}
        self._config = config
        self._shares = torch.from_numpy(item_shares.astype(np.float32)).to(device)
        self._device = device
        self._optimiser = RowAdamW(
            self.parameters,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay if config.objective == "softmax" else 0.0,
            decayed=model.DECAYED,
        )

    def step(self, batch: Batch) -> float:
        """Learn from a batch; its mean loss. Raises TrainingError if that is not finite."""
        read = self._read(batch)
        objective = self._mse if self._config.objective == "mse" else self._softmax
        loss = objective(batch, read)
        value = float(loss.detach())
        if not np.isfinite(value):
            raise TrainingError(
                f"the loss became {value}; train again with a smaller step, "
                f"learning_rate = {self._config.learning_rate / 10:g} in train.toml"
            )
        loss.backward()
        self._optimiser.step()
        return value

    def settle(self) -> None:
        """Make the parameters readable as they are, after any number of steps."""
        self._optimiser.settle()

    def _read(self, batch: Batch) -> model.Parameters:
        rows = {
            "item_ids": batch.item_rows,
            "item_tokens": batch.items.token_rows,
            "user_tokens": batch.users.token_rows,
        }
        return {
            name: (
                self._optimiser.rows(name, self._tensor(rows[name]))
                if name in rows
                else self._optimiser.whole(name)
            )
            for name in self.parameters
        }

    def _softmax(self, batch: Batch, read: model.Parameters) -> Tensor:
        cores, users = self._users(batch, read)
        candidates = self._tensor(batch.candidates)
        runs = self._tensor(batch.runs)
        known = self._tensor(batch.known[0]), self._tensor(batch.known[1])
        shares = self._shares.index_select(0, self._tensor(batch.item_rows[batch.candidates]))
        each = losses.sampled_softmax(
            model.unit(users),
            model.unit(cores.index_select(0, candidates) + read["item_base"]),
            self._tensor(batch.target_columns),
            losses.known_mask(known, runs, len(batch.history_lengths), len(candidates)),
            losses.log_sampling_probability(
                shares, len(batch.runs), self._config.uniform_negatives, len(self._shares)
            ),
            read["log_scale"].exp().clamp(max=MOST_SCALE),
        )
        weights = losses.rating_weights(self._tensor(batch.ratings), self._config.rating_power)
        return (weights * each).sum() / weights.sum().clamp(min=1e-6)

    def _mse(self, batch: Batch, read: model.Parameters) -> Tensor:
        cores, users = self._users(batch, read)
        targets = cores.index_select(0, self._tensor(batch.targets)) + read["item_base"]
        errors = losses.squared_error((users * targets).sum(dim=1), self._tensor(batch.ratings))
        penalty = sum(
            losses.regulariser([read[name] for name in tower], self._config.regulariser)
            for tower in (model.USER_TOWER, model.ITEM_TOWER)
        )
        return errors.mean() + self._config.gamma * penalty

    def _users(self, batch: Batch, read: model.Parameters) -> tuple[Tensor, Tensor]:
        """The batch's item cores (i, d) and each interaction's user vector (b, d), raw."""
        gates = self._tensor(batch.id_gates)[:, None]
        cores = gates * read["item_ids"] + self._bags(batch.items, "item", read)
        profiles = self._bags(batch.users, "user", read) + read["user_base"]
        sums = model.sum_histories(
            cores,
            self._tensor(batch.history),
            self._tensor(batch.history_offsets),
            self._tensor(batch.history_lengths),
            self._tensor(batch.history_buckets),
            read,
        )
        users = model.user_vectors(
            profiles,
            sums,
            self._tensor(batch.runs),
            cores.index_select(0, self._tensor(batch.targets)),
            self._tensor(batch.target_buckets),
            self._tensor(batch.inside),
            read,
        )
        return cores, users

    def _bags(self, side: Side, name: str, read: model.Parameters) -> Tensor:
        return model.bags(
            read[f"{name}_tokens"],
            self._tensor(side.tokens),
            self._tensor(side.offsets),
            self._tensor(side.weights),
            self._tensor(side.dense),
            read[f"{name}_dense"],
        )

    def _tensor(self, values: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(values).to(self._device)
