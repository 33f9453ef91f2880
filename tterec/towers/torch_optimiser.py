"""AdamW, NAdam and SparseAdam of torch behind the interface of the row-wise Adagrad."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional


class TorchOptimiser:
    """Optimises whole parameters, but with SparseAdam only the rows of tables that were read.

    AdamW and NAdam move also rows that a batch did not meet, by what their gradients were before.
    Weight decay is decoupled, of all rows in every step, and ours: NAdam's would be another, and
    SparseAdam has none.
    """

    def __init__(
        self,
        parameters: dict[str, Tensor],
        kind: str,
        *,
        learning_rate: float,
        weight_decay: float,
        decayed: Collection[str],
        tables: Collection[str],
        carried: bool = False,
    ) -> None:
        """Update `parameters` in place; kind: adamw, nadam or sparseadam; `tables` are those whose
        rows are read; only those named in `decayed` decay. `carried`: the parameters say something
        from the start, also in rows that no step meets."""
        self.learning_rate = learning_rate
        self._weight_decay = weight_decay
        self._decayed = decayed
        self._sparse = tables if kind == "sparseadam" else ()
        # Leaves that share the parameters' memory.
        self._leaves = {name: p.detach().requires_grad_() for name, p in parameters.items()}
        self._met = {
            name: torch.zeros(len(p), dtype=torch.bool, device=p.device)
            for name, p in parameters.items()
            if name in decayed
        }
        self._unmet = {
            name: parameters[name].detach().clone() if carried else torch.zeros(())
            for name in self._met
        }
        self._optimisers = _optimisers(self._leaves, kind, learning_rate, self._sparse)

    def whole(self, name: str) -> Tensor:
        """A parameter with all its rows, in its own shape."""
        if name in self._met:
            self._met[name].fill_(True)
        return self._leaves[name]

    def rows(self, name: str, rows: Tensor) -> Tensor:
        """These distinct rows of a parameter: (n, width)."""
        if name in self._met:
            self._met[name].index_fill_(0, rows, True)
        return functional.embedding(rows, self._leaves[name], sparse=name in self._sparse)

    def gradients(self) -> list[Tensor]:
        """Those since the last step; of a table of which rows are updated, those rows' ones."""
        found = [leaf.grad for leaf in self._leaves.values() if leaf.grad is not None]
        return [one._values() if one.is_sparse else one for one in found]

    @torch.no_grad()
    def step(self) -> None:
        """Update by the gradients since the last step."""
        kept = 1.0 - min(self.learning_rate * self._weight_decay, 0.999)
        for name in self._decayed:
            self._leaves[name].mul_(kept)
        for optimiser in self._optimisers:
            for group in optimiser.param_groups:
                group["lr"] = self.learning_rate
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

    @torch.no_grad()
    def settle(self) -> None:
        """A row under decay that was never read says nothing: it becomes zero, or, carried over,
        what it was."""
        for name, met in self._met.items():
            self._leaves[name].copy_(
                torch.where(met[:, None], self._leaves[name], self._unmet[name])
            )


def _optimisers(
    leaves: dict[str, Tensor], kind: str, learning_rate: float, sparse: Collection[str]
) -> list[Any]:
    dense = [leaf for name, leaf in leaves.items() if name not in sparse]
    tables = [leaf for name, leaf in leaves.items() if name in sparse]
    if kind == "nadam":
        return [torch.optim.NAdam(dense, lr=learning_rate)]
    made: list[Any] = []
    if dense:
        made.append(torch.optim.AdamW(dense, lr=learning_rate, weight_decay=0.0))
    if tables:
        made.append(torch.optim.SparseAdam(tables, lr=learning_rate))
    return made
