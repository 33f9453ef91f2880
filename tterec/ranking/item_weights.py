"""Item-item evidence: how much having met one item speaks for another, all else equal.

Each item's weights are a ridge regression of "met it" on "met that" over its neighbours, the
items that it shares most users with. This is the closed-form model of Steck, "Embarrassingly
shallow autoencoders for sparse data" (WWW 2019), with the regulariser of his "Autoencoders that
don't overfit towards the identity" (NeurIPS 2020), but solved item by item on a small block of
XᵀX instead of all at once on the whole: time and memory are linear in the items.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse

from tterec import arrays, grouping
from tterec.records import Progress, ProgressCallback, ignore

Index = NDArray[np.int64]

_ITEMS_AT_ONCE = 1024
_PROGRESS_EVERY = 256


@dataclass(frozen=True)
class Regression:
    """How the weights are fitted. The figures are NDCG@20 of the weights alone, on Book-Crossing's
    core and on MovieLens 100k, as in `TrainingConfig`."""

    neighbours: int = 100
    """Items that an item is regressed on: those with the greatest cosine. 200 gave .0708 and .363
    where 100 gave .0702 and .369, in twice the time."""
    neighbours_a_user: float = 60.0
    """And no more than this times its users, of whom a few cannot tell many neighbours apart. On
    all of Book-Crossing 20 gave .0372 in 35 s, 60 .0375 in 47 s, no limit .0379 in 74 s."""
    kept: int = 100
    """Of the weights, so many are kept: the greatest in magnitude. 50 and 100 gave .0705 and .0710,
    .404 and .408, and on a generated set of ratings alone .2167 and .2227."""
    ridge: float = 12.0
    """Added to every neighbour's count of users, as if so many had met nothing else. With both
    stages 12, 25 and 50 gave .0923, .0925 and .0923, .410, .411 and .411, and .231, .230 and .227
    on a generated set of ratings alone; 6, 12 and 50 .306, .305 and .298 on a generated dense set.
    Of all of Book-Crossing the evidence alone had .0373, .0376 and .0375."""
    dropout: float = 1.0
    """Added likewise, times the neighbour's own count: popular items must not speak too loud. 0,
    .5, 1 and 3, with a ridge of 50, gave .0681, .0682, .0679 and .0653, .345, .367, .371, .370."""
    most_met: int = 1000
    """At most so many items of a user count, the most telling: the pairs grow with the square."""
    most_pairs: int = 1000
    """An item's co-occurrences with at most so many others are kept: bounds the memory."""


class _Counts(NamedTuple):
    """XᵀX as far as it is kept: the users that two items share, row by row, and each item's own.
    They are counts where all interactions count alike."""

    shared: sparse.csr_array
    users: NDArray[np.float64]


def fit_item_weights(
    met: sparse.csr_array,
    regression: Regression | None = None,
    progress: ProgressCallback = ignore,
) -> sparse.csr_array:
    """Weights (items, items) float32: row i holds what speaks for item i, by the items met.

    met: (users, items), each row with the user's items, the most telling first; its values, from
    0 to 1, say how much each interaction counts. A user's evidence for all items is the sum of
    the columns of the items met, times these values.
    """
    regression = regression or Regression()
    counts = _co_occurrences(_capped(met, regression.most_met), regression.most_pairs)
    items = met.shape[1]
    place = np.full(items, -1, dtype=np.int64)
    lengths = np.zeros(items, dtype=np.int64)
    sources, values = [], []
    for item in range(items):
        if item % _PROGRESS_EVERY == 0:
            progress(Progress("item weights", item, items))
        neighbours, weights = _regress(item, counts, regression, place)
        lengths[item] = len(neighbours)
        sources.append(neighbours)
        values.append(weights)
    progress(Progress("item weights", items, items))
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    found = sparse.csr_array(
        (
            np.concatenate([*values, np.zeros(0)]).astype(np.float32),
            np.concatenate([*sources, np.zeros(0, dtype=np.int64)]),
            offsets,
        ),
        shape=(items, items),
    )
    found.sort_indices()
    return found


def _capped(met: sparse.csr_array, most: int) -> sparse.csr_array:
    """Each row's first entries; some users at a time."""
    lengths = np.diff(met.indptr)
    if lengths.max(initial=0) <= most:
        return met.astype(np.float32, copy=False)
    offsets = np.concatenate([[0], np.cumsum(np.minimum(lengths, most), dtype=np.int64)])
    values = arrays.empty(int(offsets[-1]), np.float32)
    columns = arrays.empty(int(offsets[-1]), met.indices.dtype)
    for some in grouping.spans_of_users(met.indptr):
        part = slice(int(met.indptr[some.start]), int(met.indptr[some.stop]))
        first = met.indptr[some] - part.start
        kept = np.arange(part.stop - part.start) - np.repeat(first, lengths[some]) < most
        into = slice(int(offsets[some.start]), int(offsets[some.stop]))
        values[into], columns[into] = met.data[part][kept], met.indices[part][kept]
    return sparse.csr_array((values, columns, offsets), shape=met.shape)


def _co_occurrences(met: sparse.csr_array, most_pairs: int) -> _Counts:
    by_item = _by_item(met)
    users = _sums_of_squares(by_item)
    root = np.sqrt(np.maximum(users, 1e-9))
    parts = []
    for start in range(0, met.shape[1], _ITEMS_AT_ONCE):
        rows = (by_item[start : start + _ITEMS_AT_ONCE] @ met).tocsr()
        parts.append(_strongest(rows, start, root, most_pairs))
    return _Counts(sparse.vstack(parts, format="csr"), users)


def _by_item(met: sparse.csr_array) -> sparse.csr_array:
    """The matrix the other way round, (items, users); some users at a time."""
    users, items = met.shape
    counts = np.zeros(items, dtype=np.int64)
    for piece in arrays.pieces(met.nnz):
        counts += np.bincount(met.indices[piece], minlength=items)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    values = arrays.empty(met.nnz, met.dtype)
    owners = arrays.empty(met.nnz, met.indices.dtype)
    free = offsets[:-1].copy()
    for some in grouping.spans_of_users(met.indptr):
        part = slice(int(met.indptr[some.start]), int(met.indptr[some.stop]))
        order = np.argsort(met.indices[part], kind="stable")
        found = met.indices[part][order]
        each = np.bincount(found, minlength=items)
        first = np.cumsum(each) - each
        places = free[found] + np.arange(len(found)) - first[found]
        lengths = np.diff(met.indptr[some.start : some.stop + 1])
        owners[places] = np.repeat(np.arange(some.start, some.stop), lengths)[order]
        values[places] = met.data[part][order]
        free += each
    return sparse.csr_array((values, owners, offsets), shape=(items, users))


def _sums_of_squares(rows: sparse.csr_array) -> NDArray[np.float64]:
    """Of each row, as float32 adds up, (rows,)."""
    sums = np.zeros(rows.shape[0], dtype=np.float64)
    for some in grouping.spans_of_users(rows.indptr):
        starts = rows.indptr[some.start : some.stop + 1]
        filled = np.flatnonzero(np.diff(starts))
        if len(filled):
            values = rows.data[starts[0] : starts[-1]]
            sums[some.start + filled] = np.add.reduceat(values * values, starts[filled] - starts[0])
    return sums


def _strongest(
    rows: sparse.csr_array, first: int, root: NDArray[np.float64], most: int
) -> sparse.csr_array:
    """Of each row the entries with the greatest cosine, without the item itself, by column."""
    columns, values, lengths = [], [], []
    for row in range(rows.shape[0]):
        part = slice(rows.indptr[row], rows.indptr[row + 1])
        others = rows.indices[part] != first + row
        near, shared = rows.indices[part][others], rows.data[part][others]
        if len(near) > most:
            best = np.argpartition(-shared / root[near], most)[:most]
            near, shared = near[best], shared[best]
        order = np.argsort(near)
        columns.append(near[order])
        values.append(shared[order])
        lengths.append(len(near))
    return sparse.csr_array(
        (
            np.concatenate(values),
            np.concatenate(columns),
            np.concatenate([[0], np.cumsum(lengths)]),
        ),
        shape=rows.shape,
    )


def _solved(block: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """The solution of block · weights = target, block symmetric."""
    # Called directly: the checks of linalg.solve take longer than most of these solutions.
    weights: NDArray[np.float64]
    _, weights, failed = linalg.lapack.dposv(block, target)
    if failed:  # with pairs dropped, a block may not be positive definite
        weights = linalg.solve(block, target, assume_a="sym")
    return weights


def _regress(
    item: int, counts: _Counts, regression: Regression, place: Index
) -> tuple[Index, NDArray[np.float64]]:
    """One item's neighbours and their weights. `place`: scratch, all -1 before and after."""
    shared, users = counts
    part = slice(shared.indptr[item], shared.indptr[item + 1])
    near, target = shared.indices[part].astype(np.int64), shared.data[part].astype(np.float64)
    if len(near) == 0:
        return near, target
    most = min(regression.neighbours, int(np.ceil(regression.neighbours_a_user * users[item])))
    if len(near) > most:
        cosine = target / np.sqrt(np.maximum(users[near], 1e-9))
        best = np.argpartition(-cosine, most)[:most]
        near, target = near[best], target[best]
    size = len(near)
    starts = shared.indptr[near]
    lengths = shared.indptr[near + 1] - starts
    flat = np.repeat(starts - np.cumsum(lengths) + lengths, lengths) + np.arange(lengths.sum())
    place[near] = np.arange(size)
    column = place[shared.indices[flat]]
    inside = column >= 0
    place[near] = -1
    block = np.zeros((size, size))
    block[np.repeat(np.arange(size), lengths)[inside], column[inside]] = shared.data[flat[inside]]
    # A pair may have been dropped from the longer of two rows only.
    np.maximum(block, block.T, out=block)
    block[np.diag_indices(size)] = users[near] * (1 + regression.dropout) + regression.ridge
    weights = _solved(block, target)
    if size > regression.kept:
        best = np.argpartition(-np.abs(weights), regression.kept)[: regression.kept]
        near, weights = near[best], weights[best]
    return near, weights
