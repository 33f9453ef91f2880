"""What a list must be, whatever happens beside it: of one generation, complete, and unread."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tterec.ranking import exact
from tterec.ranking.histories import Met
from tterec.ranking.second_stage import Stage
from tterec.records import Recommendation

# Postgres sums a history in another order than NumPy, and some scores are near a rounding.
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Generation:
    """A generation's vectors in memory: from them every score of a list can be computed again.

    item_ids: int64 (n,), ascending; items, histories: float32 (n, d); profiles: by user, (d,).
    """

    number: int
    item_ids: NDArray[np.int64]
    items: NDArray[np.float32]
    histories: NDArray[np.float32]
    profiles: dict[int, NDArray[np.float32]]
    default_profile: NDArray[np.float32]
    history_weights: NDArray[np.float64]
    normalised: bool
    max_history: int
    stage: Stage | None

    def places(self, ids: Sequence[int]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The row of each item, and whether it has one."""
        wanted = np.array(ids, dtype=np.int64)
        rows = np.searchsorted(self.item_ids, wanted).clip(max=len(self.item_ids) - 1)
        return rows, self.item_ids[rows] == wanted

    def vector(self, user: int, items: Sequence[int], ratings: Sequence[float | None]) -> Vector:
        """The user's vector (d,) and what their history says for every item (n,)."""
        rows, known = self.places(items[: self.max_history])
        values = np.array(ratings[: self.max_history], dtype=np.float32)
        vector = exact.user_vector(
            self.profiles.get(user, self.default_profile),
            self.histories[rows[known]],
            values[known],
            self.history_weights,
            self.normalised,
        )
        evidence = None
        if self.stage is not None and known.any():
            met = Met(np.array([0, known.sum()]), rows[known], values[known])
            evidence = self.stage.evidence(met)[0]
        return Vector(vector, evidence)


@dataclass(frozen=True)
class Vector:
    """A user's vector float64 (d,), and evidence float64 (n,), None without a second stage."""

    vector: NDArray[np.float64]
    evidence: NDArray[np.float64] | None


@dataclass(frozen=True)
class Seen:
    """A list, and what was true in the very snapshot in which it was made.

    items, ratings: the user's whole history, the most telling first; None where it may have
    changed in between. exist: how many books there are to recommend, at least. generation: the
    live one, None where it is not known.
    """

    user: int
    k: int
    rows: Sequence[Recommendation]
    rated: frozenset[int]
    exist: int
    history: tuple[Sequence[int], Sequence[float | None]] | None
    generation: int | None


def faults(seen: Seen, generations: Sequence[Generation]) -> list[str]:
    """What is wrong with a list, in words; `generations` are those that it may be from."""
    rows = seen.rows
    found = []
    ids = [row.book_id for row in rows]
    if len(set(ids)) < len(ids):
        found.append("a book comes twice")
    if [row.rank for row in rows] != list(range(1, len(rows) + 1)):
        found.append(f"ranks are {[row.rank for row in rows]}")
    order = [(-row.score, row.book_id) for row in rows]
    if order != sorted(order):
        found.append("the list is not in order of score and id")
    if rated := seen.rated & set(ids):
        found.append(f"rated books {sorted(rated)} are listed")
    if len(rows) < min(seen.k, seen.exist):
        found.append(f"{len(rows)} rows, and {seen.exist} books exist")
    if len({row.source for row in rows}) > 1:
        found.append("a list has several sources")
    if seen.history is not None and rows and rows[0].source in ("history", "profile"):
        found += _mixture(seen, generations)
    return [f"user {seen.user}, k = {seen.k}: {one}" for one in found]


def _mixture(seen: Seen, generations: Sequence[Generation]) -> list[str]:
    """Whether similarities and scores are all those of one generation, the live one."""
    complete = len(seen.rows)
    live = [one for one in generations if one.number == seen.generation]
    if any(_explained(seen, one) == complete for one in live):
        return []
    explained = {one.number: _explained(seen, one) for one in generations}
    whole = [number for number, rows in explained.items() if rows == complete]
    if not whole:
        return [
            f"no generation explains all {complete} rows; rows explained, by generation: "
            f"{explained}; live: {seen.generation}"
        ]
    if seen.generation is not None and seen.generation not in whole:
        return [f"the list is of generation {whole}, live is {seen.generation}"]
    return []


def _explained(seen: Seen, generation: Generation) -> int:
    """How many rows have the similarity and the score that they have in this generation.

    A book that came after its vectors were read is taken on trust.
    """
    assert seen.history is not None
    user = generation.vector(seen.user, *seen.history)
    rows, known = generation.places([row.book_id for row in seen.rows])
    similarities = exact.exact_scores(user.vector, generation.items[rows])
    scores = similarities
    if user.evidence is not None and generation.stage is not None:
        weight = generation.stage.ranker.similarity_weight
        scores = exact.mixed_scores(similarities, user.evidence[rows], weight)
    right = [
        row.similarity is not None
        and abs(row.similarity - similarity) <= TOLERANCE
        and abs(row.score - score) <= TOLERANCE
        for row, similarity, score in zip(seen.rows, similarities, scores, strict=True)
    ]
    return int(np.sum(~known | np.array(right)))
