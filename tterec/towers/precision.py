"""Whether products are worth taking in bfloat16."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch

from tterec.towers.threads import WORTHWHILE

REPEATS = 5


def products_in_bfloat16(device: torch.device, enabled: bool) -> AbstractContextManager[None]:
    """A block in which matrix products are in bfloat16 if `enabled`; all else stays float32."""
    context: AbstractContextManager[None] = torch.autocast(
        device.type, dtype=torch.bfloat16, enabled=enabled
    )
    return context


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device can take products in bfloat16 at all."""
    return device.type != "cuda" or torch.cuda.is_bf16_supported()


def bfloat16_helps(step: Callable[[bool], object], device: torch.device) -> bool:
    """Whether a step takes at most WORTHWHILE of its time with bfloat16, by trial here and now.

    step: given whether to use it. Both are tried in turn, so that what else the device does
    hits them alike.
    """
    times: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(REPEATS + 1):
        for half, taken in times.items():
            started = time.perf_counter()
            step(half)
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            taken.append(time.perf_counter() - started)
    plain, half_precise = (sorted(taken[1:])[REPEATS // 2] for taken in times.values())
    return half_precise <= WORTHWHILE * plain
