"""One step of learning: a batch in, better parameters out."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tterec.config import TrainingConfig
from tterec.errors import TrainingError
from tterec.towers import losses, model, ragged
from tterec.towers.bags import Holders
from tterec.towers.batches import Batch, Side
from tterec.towers.distributed import ALONE, Ranks
from tterec.towers.mining import Mining
from tterec.towers.optimiser import Optimiser, RowAdagrad
from tterec.towers.precision import bfloat16_helps, has_bfloat16, products_in_bfloat16
from tterec.towers.torch_optimiser import TorchOptimiser

MOST_SCALE = 100.0
"""The temperature is learned, but not below 0.01: losses overflow beyond."""


def optimiser(
    parameters: model.Parameters, config: TrainingConfig, *, carried: bool = False
) -> Optimiser:
    """The optimiser of these settings, for these parameters; carried: rows never met stay."""
    # mse has a regulariser of its own.
    weight_decay = 0.0 if config.objective == "mse" else config.weight_decay
    if config.optimiser == "adagrad":
        return RowAdagrad(
            parameters,
            learning_rate=config.learning_rate,
            weight_decay=weight_decay,
            decayed=model.DECAYED,
            carried=carried,
        )
    return TorchOptimiser(
        parameters,
        config.optimiser,
        learning_rate=config.learning_rate,
        weight_decay=weight_decay,
        decayed=model.DECAYED,
        tables=model.TABLES,
        carried=carried,
    )


class Learner:
    """Parameters, and an optimiser that moves them batch by batch."""

    def __init__(
        self,
        parameters: model.Parameters,
        config: TrainingConfig,
        device: torch.device,
        *,
        carried: bool = False,
        ranks: Ranks = ALONE,
    ) -> None:
        self._ranks = ranks
        self.parameters = {name: tensor.to(device) for name, tensor in parameters.items()}
        self._config = config
        self._device = device
        self._optimiser = optimiser(self.parameters, config, carried=carried)
        self.bfloat16: bool | None = None if device.type == "cuda" else False
        """Whether products are in bfloat16; None: the first step will find out."""

    def step(self, batch: Batch, pace: float = 1.0) -> float:
        """Learn from a batch, in a step of `pace` times the learning rate; its mean loss.

        Raises TrainingError if that is not finite.
        """
        if self.bfloat16 is None:
            self.choose_precision(batch)
        self._optimiser.learning_rate = self._config.learning_rate * pace
        loss, held = self._loss(batch, bfloat16=bool(self.bfloat16))
        value = float(loss.detach())
        if self._ranks.size > 1:
            # A row that only other ranks meet has a gradient here, too: zero.
            loss = loss + 0.0 * sum(held[name].sum() for name in model.TABLES)
            torch.autograd.backward(loss)
            value = self._ranks.mean(self._optimiser.gradients(), value)
        if not np.isfinite(value):
            raise TrainingError(
                f"the loss became {value}; train again with a smaller step, "
                f"learning_rate = {self._config.learning_rate / 10:g} in train.toml"
            )
        if self._ranks.size == 1:
            torch.autograd.backward(loss)
        self._optimiser.step()
        return value

    def choose_precision(self, batch: Batch) -> None:
        """Take products in bfloat16 if a batch's gradient is found faster so; nothing moves.

        All ranks make the trial or none does: each of its steps waits for all of them.
        """
        if self._ranks.mean([], float(has_bfloat16(self._device))) < 1.0:
            self.bfloat16 = False
            return

        def gradient(bfloat16: bool) -> None:
            loss, _ = self._loss(batch, bfloat16=bfloat16)
            torch.autograd.backward(loss)
            for one in self._optimiser.gradients():
                one.zero_()

        (chosen,) = self._ranks.as_first((float(bfloat16_helps(gradient, self._device)),))
        self.bfloat16 = bool(chosen)

    def settle(self) -> None:
        """Make the parameters readable as they are, after any number of steps."""
        self._optimiser.settle()

    def _loss(self, batch: Batch, *, bfloat16: bool) -> tuple[Tensor, model.Parameters]:
        """A batch's loss, and what it is to be differentiated by."""
        held, read = self._read(batch)
        with products_in_bfloat16(self._device, bfloat16):
            if self._config.objective != "mse":
                return self._ranking(batch, read), held
            return self._mse(batch, read) + self._config.gamma * self._penalty(held), held

    def _read(self, batch: Batch) -> tuple[model.Parameters, model.Parameters]:
        """What is differentiated by, and the batch's own rows of it.

        They are the same, but for tables of which other ranks read other rows: all ranks hold the
        rows of all.
        """
        own = {
            "item_ids": batch.item_rows,
            "item_tokens": batch.items.token_rows,
            "user_tokens": batch.users.token_rows,
        }
        rows = self._ranks.union(own)
        held = {
            name: (
                self._optimiser.rows(name, self._tensor(rows[name]))
                if name in rows
                else self._optimiser.whole(name)
            )
            for name in self.parameters
        }
        if self._ranks.size == 1:
            return held, held
        read = dict(held)
        for name, some in own.items():
            places = np.searchsorted(rows[name], some)
            read[name] = held[name].index_select(0, self._tensor(places))
        return held, read

    def _ranking(self, batch: Batch, read: model.Parameters) -> Tensor:
        config = self._config
        cores, users = self._users(batch, read)
        items = cores.index_select(0, self._tensor(batch.candidates)) + read["item_base"]
        users, items = model.unit(users), model.unit(items)
        known = self._tensor(batch.known[0]), self._tensor(batch.known[1])
        scene = losses.Scene(
            targets=self._tensor(batch.target_columns),
            log_q=self._tensor(batch.log_q),
            known=losses.known_mask(known, len(batch.history_lengths), len(items)),
            runs=self._tensor(batch.runs),
            weights=losses.rating_weights(self._tensor(batch.ratings), config.rating_power),
        )
        mining = Mining(config.mining, config.mined, config.mining_gap)
        if config.objective == "triplet":
            if mining.kind == "none":
                mining = mining._replace(kind="semi-hard")
            return losses.triplet(users, items, scene, margin=config.margin, mining=mining)
        scale = read["log_scale"].exp().clamp(max=MOST_SCALE)
        mining = mining._replace(gap=mining.gap * float(scale.detach()))
        objective = losses.bpr if config.objective == "bpr" else losses.softmax
        return objective(scale * users, items, scene, mining)

    def _mse(self, batch: Batch, read: model.Parameters) -> Tensor:
        cores, users = self._users(batch, read)
        targets = cores.index_select(0, self._tensor(batch.targets)) + read["item_base"]
        errors = losses.squared_error((users * targets).sum(dim=1), self._tensor(batch.ratings))
        return errors.mean()

    def _penalty(self, held: model.Parameters) -> Tensor:
        parts = [
            losses.regulariser([held[name] for name in tower], self._config.regulariser)
            for tower in (model.USER_TOWER, model.ITEM_TOWER)
        ]
        return torch.stack(parts).sum()

    def _users(self, batch: Batch, read: model.Parameters) -> tuple[Tensor, Tensor]:
        """The batch's item cores (i, d) and each interaction's user vector (b, d), raw."""
        own = self._tensor(batch.id_gates)[:, None] * read["item_ids"]
        cores = own + self._feature_sums(batch.items, "item", read)
        profiles = self._feature_sums(batch.users, "user", read) + read["user_base"]
        histories = model.HistoryItems(
            items=self._tensor(batch.history),
            buckets=self._tensor(batch.history_buckets),
            offsets=self._tensor(batch.history_offsets),
            lengths=self._tensor(batch.history_lengths),
            holders=self._holders(batch.history_holders),
        )
        targets = model.Targets(
            cores=cores.index_select(0, self._tensor(batch.targets)),
            buckets=self._tensor(batch.target_buckets),
            inside=self._tensor(batch.inside),
        )
        runs = self._tensor(batch.runs)
        sums = model.sum_histories(histories, cores, read)
        others = model.leave_one_out(sums, runs, targets, read)
        return cores, model.user_vectors(profiles.index_select(0, runs), others, read)

    def _feature_sums(self, side: Side, name: str, read: model.Parameters) -> Tensor:
        bags = model.Bags(
            tokens=self._tensor(side.tokens),
            offsets=self._tensor(side.offsets),
            weights=self._tensor(side.weights),
            dense=self._tensor(side.dense),
            holders=self._holders(side.holders),
        )
        return model.feature_sums(bags, read[f"{name}_tokens"], read[f"{name}_dense"])

    def _holders(self, holders: ragged.Holders) -> Holders:
        return Holders(*map(self._tensor, holders))

    def _tensor(self, values: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(values).to(self._device)
