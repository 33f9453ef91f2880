"""From a user's history to their vector; from scored candidates to a list."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tterec.ranking import exact
from tterec.records import Recommendation, Source
from tterec.retrieval.base import Candidates
from tterec.retrieval.live_models import LiveModel


def embed(
    model: LiveModel,
    profile: NDArray[np.float32] | None,
    history_vectors: NDArray[np.float32],
    ratings: NDArray[np.float32],
) -> tuple[NDArray[np.float64] | None, Source]:
    """The user's vector (d,), None where nothing is known of them, and what it comes from."""
    if profile is None and not len(ratings):
        return None, "popular"
    vector = exact.user_vector(
        model.default_profile if profile is None else profile,
        history_vectors,
        ratings,
        model.history_weights,
        model.normalised,
    )
    return (vector if vector.any() else None), "history" if len(ratings) else "profile"


def ranked(
    candidates: Candidates, vector: NDArray[np.floating], k: int, source: Source
) -> list[Recommendation]:
    similarities = exact.exact_scores(vector, candidates.vectors)
    return listed(candidates, similarities, similarities, k, source)


def listed(
    candidates: Candidates,
    scores: NDArray[np.float64],
    similarities: NDArray[np.float64],
    k: int,
    source: Source,
) -> list[Recommendation]:
    order = exact.rank(candidates.item_ids, scores, k)
    return lines(candidates, order, scores[order], similarities[order], source)


def lines(
    items: Candidates,
    rows: NDArray[np.int64],
    scores: NDArray[np.float64],
    similarities: NDArray[np.float64],
    source: Source,
) -> list[Recommendation]:
    """Rows of some items (n,) as a list, in this order, with their scores and similarities."""
    ids, isbns, titles = items.item_ids[rows].tolist(), items.isbns, items.titles
    ordered = zip(rows.tolist(), ids, scores.tolist(), similarities.tolist(), strict=True)
    return [
        Recommendation(rank, item_id, isbns[row], titles[row], score, similarity, source)
        for rank, (row, item_id, score, similarity) in enumerate(ordered, start=1)
    ]
