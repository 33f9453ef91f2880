"""A candidate index in memory: every item's vector, asked by matrix products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tterec.retrieval.base import Candidates

Index = NDArray[np.int64]

# Of a float32 inner product of some hundred terms, relative to the two norms. It also covers the
# rounding of scores to six decimals, within which items rank by id.
_TOLERANCE = 1e-5
# Scores of one product, 16 MB of float32. Products that stay in the cache took a third of the time
# of one over all 270,000 items; smaller ones lose again to several threads' waiting for another.
_SCORES_AT_ONCE = 2**22


@dataclass(frozen=True)
class Pairs:
    """Items of many users: int64 (p,) each. `owners`, ascending, is a user's place among those
    asked about, `rows` are rows of the catalogue."""

    owners: Index
    rows: Index

    def __len__(self) -> int:
        return len(self.owners)


NO_PAIRS = Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64))


class MatrixIndex:
    """Exact candidates for many users at once; finds all that could rank among the best."""

    def __init__(self, items: Candidates) -> None:
        """`items`: the whole catalogue; item_ids ascending."""
        self.items = items
        # The longest vector bounds the rounding error of any product.
        squares = np.einsum("nd,nd->n", items.vectors, items.vectors)
        self._longest = float(np.sqrt(squares.max(initial=0.0)))

    def candidates(
        self,
        user_vector: NDArray[np.floating],
        k: int,
        excluded: NDArray[np.int64],
    ) -> Candidates:
        """See CandidateIndex; never misses an item."""
        rows = positions(self.items.item_ids, excluded)[0]
        unwanted = Pairs(np.zeros(len(rows), np.int64), rows)
        return self.shown(np.sort(self.nearest(user_vector[None, :], k, unwanted).rows))

    def shown(self, rows: Index) -> Candidates:
        """Rows of the catalogue (n,) as candidates."""
        return Candidates(
            self.items.item_ids[rows],
            [self.items.isbns[row] for row in rows.tolist()],
            [self.items.titles[row] for row in rows.tolist()],
            self.items.vectors[rows],
        )

    def nearest(self, user_vectors: NDArray[np.floating], k: int, excluded: Pairs) -> Pairs:
        """For each of many vectors (users, d) at least the k best items that are not excluded, in
        no promised order; all of them where there are fewer than k."""
        queries = user_vectors.astype(np.float32)
        users, items = len(queries), len(self.items)
        if not (users and items and k):
            return NO_PAIRS
        margins = (_TOLERANCE * np.maximum(1.0, self._longest * _norms(queries))).astype(np.float32)
        chunks = -(-items // max(_SCORES_AT_ONCE // users, 1))
        buffer = np.empty(users * -(-items // chunks), dtype=np.float32)
        best = _Best(k, margins)
        parts = _by_chunk(excluded, chunks)
        for chunk in range(chunks):
            # Each chunk is spread over the catalogue, whatever that is ordered by: the best of the
            # first ones tell early what cannot be among the best of all.
            vectors = self.items.vectors[chunk::chunks]
            scores = buffer[: users * len(vectors)].reshape(users, len(vectors))
            np.matmul(queries, vectors.T, out=scores)
            scores[parts[chunk].owners, parts[chunk].rows // chunks] = -np.inf
            best.add(scores, chunk, chunks)
        return best.pairs()


class _Best:
    """The best of the chunks so far: at least those within the margin of each user's k-th.

    A k-th best of some items is never better than that of all, so that what falls short of it can
    be forgotten at once.
    """

    def __init__(self, k: int, margins: NDArray[np.float32]) -> None:
        self._k = k
        self._margins = margins  # (users,)
        self._least = np.full(len(margins), -np.inf, dtype=np.float32)
        self._held: list[tuple[Index, Index, NDArray[np.float32]]] = []
        self._count = 0
        self._after = 2

    def add(self, scores: NDArray[np.float32], chunk: int, chunks: int) -> None:
        """The scores (users, n) of rows chunk, chunk + chunks, …; -inf is never among the best."""
        if chunk == 0:
            self._raise_least(scores)
        found = np.flatnonzero(scores > self._least[:, None])
        owners, columns = np.divmod(found, scores.shape[1])
        self._hold(owners, columns * chunks + chunk, scores.ravel()[found])
        # Twice as many chunks each time: what is held grows by the same number in between.
        if chunk + 1 >= self._after or self._count > _SCORES_AT_ONCE:
            self._after = 2 * (chunk + 1)
            self._tighten()

    def pairs(self) -> Pairs:
        """What is left, each user's together."""
        self._tighten()
        ((owners, rows, _),) = self._held
        return Pairs(owners, rows)

    def _hold(self, owners: Index, rows: Index, scores: NDArray[np.float32]) -> None:
        self._held.append((owners, rows, scores))
        self._count += len(owners)

    def _raise_least(self, scores: NDArray[np.float32]) -> None:
        place = scores.shape[1] - self._k
        if place > 0:
            kth = np.partition(scores, place, axis=1)[:, place]
            self._least = np.maximum(self._least, kth - self._margins)

    def _tighten(self) -> None:
        owners, rows, scores = (np.concatenate(some) for some in zip(*self._held, strict=True))
        # Numbers of sixteen bits are sorted by counting them.
        narrow = owners.astype(np.uint16) if len(self._least) <= 2**16 else owners
        order = np.argsort(narrow, kind="stable")
        owners, rows, scores = owners[order], rows[order], scores[order]
        counts = np.bincount(owners, minlength=len(self._least))
        places = np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)
        table = np.full((len(counts), int(counts.max())), -np.inf, dtype=np.float32)
        table[owners, places] = scores
        self._raise_least(table)
        kept = scores > self._least[owners]
        self._held, self._count = [], 0
        self._hold(owners[kept], rows[kept], scores[kept])


def _by_chunk(pairs: Pairs, chunks: int) -> Sequence[Pairs]:
    of = pairs.rows % chunks
    order = np.argsort(of, kind="stable")
    bounds = np.searchsorted(of[order], np.arange(chunks + 1)).tolist()
    parts = [order[start:stop] for start, stop in pairwise(bounds)]
    return [Pairs(pairs.owners[part], pairs.rows[part]) for part in parts]


def _norms(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    squares: NDArray[np.float64] = np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64)
    return np.sqrt(squares)


def positions(
    ascending: NDArray[np.int64], wanted: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Where the wanted ids stand among ascending ones, without the absent; which are present."""
    places = np.searchsorted(ascending, wanted)
    inside = places < len(ascending)
    present = inside.copy()
    present[inside] = ascending[places[inside]] == wanted[inside]
    return places[present], present
