"""A candidate index in memory: every item's vector, asked by matrix products."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tterec.retrieval.base import Candidates

# Of a float32 inner product of some hundred terms, relative to the two norms. It also covers the
# rounding of scores to six decimals, within which items rank by id.
_TOLERANCE = 1e-5


class MatrixIndex:
    """Exact candidates for many users at once; finds all that could rank among the best."""

    def __init__(self, items: Candidates) -> None:
        """`items`: the whole catalogue; item_ids ascending."""
        self.items = items
        # The longest vector bounds the rounding error of any product.
        squares = np.einsum("nd,nd->n", items.vectors, items.vectors)
        self._longest = float(np.sqrt(squares.max(initial=0.0)))

    def candidates(
        self, user_vector: NDArray[np.floating], k: int, excluded: NDArray[np.int64]
    ) -> Candidates:
        """See CandidateIndex; never misses an item."""
        return self.candidates_of_many(user_vector[None, :], k, [excluded])[0]

    def candidates_of_many(
        self, user_vectors: NDArray[np.floating], k: int, excluded: list[NDArray[np.int64]]
    ) -> list[Candidates]:
        """The same for vectors (users, d) and each user's excluded item ids."""
        queries = user_vectors.astype(np.float32)
        scores = queries @ self.items.vectors.T  # (users, items)
        margins = (_TOLERANCE * np.maximum(1.0, self._longest * _norms(queries))).tolist()
        return [
            self._best(row, k, unwanted, margin)
            for row, unwanted, margin in zip(scores, excluded, margins, strict=True)
        ]

    def _best(
        self, scores: NDArray[np.float32], k: int, excluded: NDArray[np.int64], margin: float
    ) -> Candidates:
        ids = self.items.item_ids
        scores[positions(ids, excluded)[0]] = -np.inf
        least = -np.inf
        if k < len(scores):
            least = np.partition(scores, len(scores) - k)[len(scores) - k] - margin if k else np.inf
        chosen = np.flatnonzero((scores >= least) & (scores > -np.inf))
        return Candidates(
            item_ids=ids[chosen],
            isbns=[self.items.isbns[i] for i in chosen],
            titles=[self.items.titles[i] for i in chosen],
            vectors=self.items.vectors[chosen],
        )


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
