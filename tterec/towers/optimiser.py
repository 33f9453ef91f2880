"""AdamW for parameters of which a step touches few rows.

torch's AdamW would read and write all 100,000 rows for the few thousand that a batch meets, and
its SparseAdam knows no weight decay. Here a row's moments and step count move only when it is
met, and the decay it missed meanwhile is made up for when it is next read: a row that is seldom
met shrinks as far as one that is met in every step.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


@dataclass
class _State:
    table: Tensor
    shape: torch.Size
    decay: float
    first: Tensor
    second: Tensor
    updates: Tensor
    decayed: Tensor
    rows: Tensor | None = None
    leaf: Tensor | None = None


class RowAdamW:
    """Reads rows of tables as leaves of a graph, and updates them by their gradients."""

    def __init__(
        self,
        parameters: dict[str, Tensor],
        *,
        learning_rate: float,
        weight_decay: float,
        decayed: Collection[str],
    ) -> None:
        """Update `parameters` in place; only those named in `decayed` decay."""
        self.learning_rate = learning_rate
        self._weight_decay = weight_decay
        self._log_kept = 0.0  # log of the share that decay leaves of a row that no step met
        self._states = {}
        for name, parameter in parameters.items():
            table = parameter if parameter.ndim == 2 else parameter.view(1, -1)
            counts = torch.zeros(len(table), dtype=torch.float64, device=table.device)
            self._states[name] = _State(
                table=table,
                shape=parameter.shape,
                decay=float(name in decayed),
                first=torch.zeros_like(table),
                second=torch.zeros_like(table),
                updates=counts,
                decayed=counts.clone(),
            )

    def whole(self, name: str) -> Tensor:
        """A parameter with all its rows, in its own shape."""
        state = self._states[name]
        everything = torch.arange(len(state.table), device=state.table.device)
        return self.rows(name, everything).view(state.shape)

    def rows(self, name: str, rows: Tensor) -> Tensor:
        """These distinct rows of a parameter, a leaf that requires a gradient: (n, width)."""
        state = self._states[name]
        values = state.table.index_select(0, rows)
        missed = torch.exp(state.decay * (self._log_kept - state.decayed.index_select(0, rows)))
        state.rows = rows
        state.leaf = values.mul_(missed[:, None].to(values.dtype)).requires_grad_()
        return state.leaf

    @torch.no_grad()
    def step(self) -> None:
        """Update the rows read since the last step."""
        self._log_kept += math.log(1.0 - min(self.learning_rate * self._weight_decay, 0.999))
        kept = 1.0 - min(self.learning_rate * self._weight_decay, 0.999)
        for state in self._states.values():
            rows, leaf = state.rows, state.leaf
            if rows is None or leaf is None or leaf.grad is None:
                continue
            gradient = leaf.grad
            first = state.first.index_select(0, rows).lerp_(gradient, 1 - BETA1)
            second = state.second.index_select(0, rows).mul_(BETA2)
            second.addcmul_(gradient, gradient, value=1 - BETA2)
            updates = state.updates.index_select(0, rows) + 1
            step_size = (self.learning_rate / (1 - BETA1**updates)).to(leaf.dtype)[:, None]
            correction = (1 - BETA2**updates).to(leaf.dtype)[:, None]
            spread = (second / correction).sqrt_().add_(EPSILON)
            values = leaf.detach() * kept**state.decay
            values.sub_(step_size * first / spread)
            for whole, part in (
                (state.table, values),
                (state.first, first),
                (state.second, second),
                (state.updates, updates),
            ):
                whole.index_copy_(0, rows, part)
            state.decayed.index_fill_(0, rows, self._log_kept)
            state.rows = state.leaf = None

    @torch.no_grad()
    def settle(self) -> None:
        """Apply all pending decay, so that the tables can be read as they are."""
        for state in self._states.values():
            missed = torch.exp(state.decay * (self._log_kept - state.decayed))
            state.table.mul_(missed[:, None].to(state.table.dtype))
            state.decayed.fill_(self._log_kept)
