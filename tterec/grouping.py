"""Interactions user by user, however many there are: a few whole users at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tterec import arrays

Ids = NDArray[np.int64]


def whole_users(user_ids: Ids) -> Iterator[slice | Ids]:
    """Which of the interactions (n,) are some users', by ascending id; each user's in the order
    in which they came."""
    order = None if ascending(user_ids) else np.argsort(user_ids, kind="stable")
    start = 0
    while start < len(user_ids):
        last = min(start + arrays.AT_ONCE, len(user_ids)) - 1
        user = user_ids[last if order is None else order[last]]
        stop = int(np.searchsorted(user_ids, user, side="right", sorter=order))
        yield slice(start, stop) if order is None else order[start:stop]
        start = stop


def spans_of_users(offsets: NDArray[np.integer]) -> Iterator[slice]:
    """Slices of users, as many as are worked on at a time. offsets: (users + 1,), where each
    user's interactions start."""
    start, users = 0, len(offsets) - 1
    while start < users:
        most = min(int(offsets[start]) + arrays.AT_ONCE, int(offsets[-1]))
        # Of their own type: for another one NumPy would copy all offsets.
        reached = int(np.searchsorted(offsets, offsets.dtype.type(most), side="right")) - 1
        stop = min(max(reached, start + 1), start + arrays.AT_ONCE, users)
        yield slice(start, stop)
        start = stop


def ascending(ids: NDArray[Any]) -> bool:
    """Whether no id is smaller than the one before it."""
    for piece in arrays.pieces(len(ids)):
        some = ids[piece.start : piece.stop + 1]
        if not np.all(some[:-1] <= some[1:]):
            return False
    return True


def starts(ids: NDArray[Any]) -> Ids:
    """Where each id begins among ids (n,) of which equal ones stand together: int64, ascending."""
    found = [np.zeros(min(len(ids), 1), dtype=np.int64)]
    for piece in arrays.pieces(len(ids)):
        some = ids[piece.start : piece.stop + 1]
        found.append(np.flatnonzero(some[1:] != some[:-1]) + piece.start + 1)
    return np.concatenate(found)


def among(values: Ids, ascending_ids: Ids) -> NDArray[np.bool_]:
    """Which values (n,) are among ids in ascending order: bool (n,)."""
    if len(ascending_ids) == 0:
        return np.zeros(len(values), dtype=bool)
    places = np.searchsorted(ascending_ids, values).clip(max=len(ascending_ids) - 1)
    found: NDArray[np.bool_] = ascending_ids[places] == values
    return found
