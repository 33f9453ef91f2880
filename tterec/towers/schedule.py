"""How long the steps are, as training goes on."""

from __future__ import annotations

import math


def pace(done: float, schedule: str, *, warmup: float, epochs: float) -> float:
    """The share of the learning rate that a step takes, 0 to 1.

    done: how many epochs are behind, counting the step itself, of `epochs`. In the first `warmup`
    of them the share rises linearly to 1; then it stays (constant) or falls to 0 at the end, along
    a line (linear) or half a cosine wave (cosine).
    """
    if done < warmup:
        return done / warmup
    left = max(epochs - done, 0.0) / max(epochs - warmup, 1e-9)
    if schedule == "linear":
        return min(left, 1.0)
    if schedule == "cosine":
        return (1 - math.cos(math.pi * min(left, 1.0))) / 2
    return 1.0
