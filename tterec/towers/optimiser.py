"""Adagrad for parameters of which a step touches few rows.

A dense optimiser would read and write all 100,000 rows for the few thousand that a batch meets.
Here a row's sums move only when it is met, and the weight decay that it missed meanwhile is made
up for when it is next read: a row that is seldom met shrinks as far as one that is always met.

Adagrad, because its steps shrink row by row as evidence comes in; Adam's stay as long for noise
as for a trend. NDCG@20 with each at its best setting: on generated dense tastes .269 with Adagrad
and .260 with Adam, on Book-Crossing's core .075 with both; and one step size serves both
objectives, where Adam needs .003 for softmax and .01 for mse.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.optim.adagrad import adagrad

EPSILON = 1e-10


class Optimiser(Protocol):
    """Hands out parameters to compute a loss with, and moves them by its gradients."""

    learning_rate: float

    def whole(self, name: str) -> Tensor:
        """A parameter with all its rows, in its own shape, to be differentiated by."""

    def rows(self, name: str, rows: Tensor) -> Tensor:
        """These distinct rows of a parameter, to be differentiated by: (n, width)."""

    def gradients(self) -> list[Tensor]:
        """Those of what was handed out, in one order, to be changed in place before the step."""

    def step(self) -> None:
        """Update what was handed out since the last step."""

    def settle(self) -> None:
        """Apply what is pending, so that the parameters can be read as they are."""


@dataclass
class _State:
    """rows: those that the leaf is a copy of; None: it is the table itself, in the parameter's
    shape."""

    table: Tensor
    shape: torch.Size
    decays: bool
    squares: Tensor
    decayed: Tensor
    rows: Tensor | None = None
    leaf: Tensor | None = None


class RowAdagrad:
    """Reads rows of tables as leaves of a graph, and updates them by their gradients."""

    def __init__(
        self,
        parameters: dict[str, Tensor],
        *,
        learning_rate: float,
        weight_decay: float,
        decayed: Collection[str],
        carried: bool = False,
    ) -> None:
        """Update `parameters` in place; only those named in `decayed` decay.

        `carried`: the parameters say something from the start, also in rows that no step meets.
        """
        self.learning_rate = learning_rate
        self._weight_decay = weight_decay
        self._carried = carried
        self._log_kept = 0.0  # log of the share that decay leaves of a row that no step met
        self._states = {}
        for name, parameter in parameters.items():
            table = parameter if parameter.ndim == 2 else parameter.view(1, -1)
            self._states[name] = _State(
                table=table,
                shape=parameter.shape,
                decays=name in decayed,
                squares=torch.zeros_like(table),
                decayed=torch.zeros(len(table), dtype=torch.float64, device=table.device),
            )

    @torch.no_grad()
    def whole(self, name: str) -> Tensor:
        """A parameter with all its rows, in its own shape: a leaf that shares its memory."""
        state = self._states[name]
        if state.decays:
            state.table.mul_(self._missed(state, state.decayed))
            state.decayed.fill_(self._log_kept)
        state.rows = None
        state.leaf = state.table.view(state.shape).requires_grad_()
        return state.leaf

    def rows(self, name: str, rows: Tensor) -> Tensor:
        """These distinct rows of a parameter, a leaf that requires a gradient: (n, width)."""
        state = self._states[name]
        values = state.table.index_select(0, rows)
        if state.decays:
            values.mul_(self._missed(state, state.decayed.index_select(0, rows)))
        state.rows = rows
        state.leaf = values.requires_grad_()
        return state.leaf

    def _missed(self, state: _State, decayed: Tensor) -> Tensor:
        """The share that the decay of the steps since then leaves: (n, 1)."""
        return torch.exp(self._log_kept - decayed)[:, None].to(state.table.dtype)

    def gradients(self) -> list[Tensor]:
        """Those of the rows read since the last step."""
        leaves = (state.leaf for state in self._states.values())
        return [leaf.grad for leaf in leaves if leaf is not None and leaf.grad is not None]

    @torch.no_grad()
    def step(self) -> None:
        """Update the rows read since the last step.

        Their decay is made up for when they are next read, as that of rows that were not met, for
        it saves a pass over them: (1 - λ) · (p - step / (1 - λ)) is (1 - λ) · p - step.
        """
        met = [s for s in self._states.values() if s.leaf is not None and s.leaf.grad is not None]
        kept = 1.0 - min(self.learning_rate * self._weight_decay, 0.999)
        for decays, rate in ((True, self.learning_rate / kept), (False, self.learning_rate)):
            alike = [state for state in met if state.decays == decays]
            self._update([state for state in alike if state.rows is None], rate)
            for state in alike:
                if state.rows is not None:  # one after the other: each takes memory
                    self._update([state], rate)
        self._log_kept += math.log(kept)
        for state in met:
            state.rows = state.leaf = None

    def _update(self, states: list[_State], rate: float) -> None:
        """Move what was read of some parameters, all in one call."""
        leaves = [(state.leaf, state.leaf.grad) for state in states if state.leaf is not None]
        values = [leaf.detach() for leaf, _ in leaves]
        gradients = [gradient.contiguous() for _, gradient in leaves if gradient is not None]
        squares = [
            state.squares.view(state.shape)
            if state.rows is None
            else state.squares.index_select(0, state.rows)
            for state in states
        ]
        adagrad(
            values,
            gradients,
            squares,
            [torch.zeros(())] * len(states),  # steps, which count with lr_decay only
            fused=all(one.device.type == "cpu" for one in values),  # one pass instead of five
            lr=rate,
            lr_decay=0.0,
            weight_decay=0.0,
            eps=EPSILON,
            maximize=False,
        )
        for state, moved, summed in zip(states, values, squares, strict=True):
            if state.rows is None:
                state.decayed.fill_(self._log_kept)
                continue
            _wide(state.table).index_copy_(0, state.rows, _wide(moved))
            _wide(state.squares).index_copy_(0, state.rows, _wide(summed))
            state.decayed.index_fill_(0, state.rows, self._log_kept)

    @torch.no_grad()
    def settle(self) -> None:
        """Apply all pending decay, so that the parameters can be read as they are.

        A row under decay that no step has moved says nothing: it becomes zero. Where parameters
        were carried over it stays as it was.
        """
        for state in self._states.values():
            if not state.decays:
                continue
            unmet = ~state.squares.any(dim=1)
            missed = self._missed(state, state.decayed)
            if self._carried:
                missed[unmet] = 1.0
            state.table.mul_(missed)
            if not self._carried:
                state.table[unmet] = 0.0
            state.decayed.fill_(self._log_kept)


def _wide(table: Tensor) -> Tensor:
    """The same memory as fewer, larger numbers: torch copies rows number by number."""
    return table.view(torch.complex128) if table.shape[1] % 4 == 0 else table
