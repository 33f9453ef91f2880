"""How many threads torch may use."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch

MOST_THREADS = 8
"""A step's matrices are too small to feed more."""
_SIZE, _REPEATS = 1024, 5
WORTHWHILE = 0.85
"""More threads must take at most this share of the time of fewer."""


@contextmanager
def bounded_threads(wanted: int) -> Iterator[int]:
    """Let torch use `wanted` threads, 0 for as many as help; restores the former number."""
    former = torch.get_num_threads()
    try:
        chosen = wanted or fastest_thread_count()
        torch.set_num_threads(chosen)
        yield chosen
    finally:
        torch.set_num_threads(former)


def fastest_thread_count() -> int:
    """The number of threads with which a matrix product is fastest here and now.

    Measured, because neither the number of processors nor that of the affinity mask tells how
    many are free: with more threads than free cores, torch is up to 20 times slower than with
    one. An OMP_NUM_THREADS in the environment is an upper bound.
    """
    most = min(_usable_processors(), MOST_THREADS)
    best, best_time = 1, _product_time(1)
    threads = 2
    while threads <= most:
        elapsed = _product_time(threads)
        if elapsed > WORTHWHILE * best_time:
            break
        best, best_time = threads, elapsed
        threads = most if threads < most < 2 * threads else 2 * threads
    return best


def _usable_processors() -> int:
    if sys.platform == "linux":
        available = len(os.sched_getaffinity(0))
    else:
        available = os.cpu_count() or 1
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return min(available, int(limit)) if limit.isdigit() and int(limit) else available


def _product_time(threads: int) -> float:
    """The median time of a matrix product with that many threads, in seconds."""
    torch.set_num_threads(threads)
    left = torch.ones(_SIZE, 64)
    times = []
    for _ in range(_REPEATS + 1):
        started = time.perf_counter()
        torch.logsumexp(left @ left.T, dim=1)
        times.append(time.perf_counter() - started)
    return sorted(times[1:])[_REPEATS // 2]
