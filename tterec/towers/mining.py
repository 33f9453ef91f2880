"""Hard negatives: those of a batch's candidates that score high with the towers as they are."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor


class Mining(NamedTuple):
    """Which candidates are negatives. kind: none (all are), hard (the `most` that score highest)
    or semi-hard (the `most` that score highest among those that score less than the target by at
    least `gap`, in units of the scores: what scores as high as the target may well be liked)."""

    kind: str
    most: int
    gap: float


ALL = Mining("none", 0, 0.0)


def mine(scores: Tensor, columns: Tensor, excluded: Tensor, mining: Mining) -> Tensor:
    """The candidates that are no negatives: bool (n, c), more than `excluded`, never the target.

    scores: (n, c). columns: int64 (n, 1), the targets. excluded: bool (n, c), of candidates that
    the user has met. Where no candidate is semi-hard, the one that scores least is taken for it,
    or a target that all outrank would never rise.
    """
    if mining.kind == "none":
        return excluded
    barred = excluded.scatter(1, columns, True)
    if mining.kind == "semi-hard":
        below = scores.gather(1, columns) - mining.gap
        easiest = scores.masked_fill(barred, math.inf).amin(dim=1, keepdim=True)
        barred |= scores > below.maximum(easiest)
    most = min(mining.most, scores.shape[1])
    hardest = scores.masked_fill(barred, -math.inf).topk(most, dim=1).values[:, -1:]
    return (barred | (scores < hardest)).scatter_(1, columns, False)
