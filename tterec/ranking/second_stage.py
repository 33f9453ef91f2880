"""The second stage: candidates of both kinds, ordered by item-item evidence and similarity."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from tterec.ranking import exact
from tterec.ranking.histories import Index, Met, met_by, user_vectors
from tterec.ranking.item_weights import fit_item_weights
from tterec.records import Interactions, ProgressCallback, Ranker, TrainedVectors, ignore

CANDIDATES = 200
"""Items nearest to the user's vector that the second stage looks at. With 100 the first 20 were
as good as with all items, on Book-Crossing's core (NDCG@20 .0844) and on MovieLens 100k (.380)."""
LEADS = 10
"""Items that it looks at for each item that the user has met. 5 and 50 gave the same lists."""
MIXTURES = (0.0, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56)
"""Weights of the similarity to choose from, in units of one over its standard deviation."""
LEAST_USERS = 50
"""Fewer validation users could not tell a good mixture from a lucky one."""
_PAIRS_AT_ONCE = 2**23


class Stage:
    """A ranker in memory, for many users at once."""

    def __init__(self, ranker: Ranker) -> None:
        items = len(ranker.item_ids)
        self.ranker = ranker
        self._by_source = sparse.csr_array(
            (ranker.weights, ranker.sources, ranker.offsets), shape=(items, items)
        ).T.tocsr()
        filled = ranker.leads >= 0
        led = np.searchsorted(ranker.item_ids, ranker.leads[filled])
        offsets = np.concatenate([[0], np.cumsum(filled.sum(axis=1))])
        self._leads = sparse.csr_array((np.ones(len(led)), led, offsets), shape=(items, items))

    def evidence(self, history: Met) -> NDArray[np.float64]:
        """What the items met say for every item: (users, items)."""
        voices = exact.voices(history.ratings, self.ranker.unrated_weight)
        met = history.matrix(voices, len(self.ranker.item_ids))
        found: NDArray[np.float64] = (met @ self._by_source).toarray()
        return found

    def led_by(self, rows: Index) -> Index:
        """The rows of the items that these items, given by their rows, speak for most."""
        led: Index = np.unique(self._leads[rows].indices).astype(np.int64)
        return led

    def candidates(
        self, similarities: NDArray[np.floating], history: Met, at_least: int = 0
    ) -> NDArray[np.bool_]:
        """Which items are looked at: bool (users, items).

        similarities: (users, items), -inf where an item may not be recommended. `at_least` so
        many of those nearest are candidates, where so many are asked for.
        """
        most = max(self.ranker.candidates, at_least)
        met = history.matrix(np.ones(len(history.items)), len(self.ranker.item_ids))
        chosen: NDArray[np.bool_] = (met @ self._leads).toarray() > 0
        if most < similarities.shape[1]:
            place = similarities.shape[1] - most
            least = np.partition(similarities, place, axis=1)[:, place, None]
            chosen |= similarities >= least
        else:
            chosen[:] = True
        return chosen & (similarities > -np.inf)

    def scores(
        self, similarities: NDArray[np.floating], history: Met, at_least: int = 0
    ) -> NDArray[np.float64]:
        """The score of every candidate, -inf of every other item: (users, items)."""
        looked_at = self.candidates(similarities, history, at_least)
        scores = self.evidence(history)
        scores += self.ranker.similarity_weight * np.where(looked_at, similarities, 0.0)
        return np.where(looked_at, scores, -np.inf)


class Mixed(NamedTuple):
    """A ranker with the best mixture, NDCG@20 on validation with it, and without a ranker."""

    ranker: Ranker
    ndcg: float
    ndcg_without: float


def fit_evidence(
    known: Interactions, item_ids: Index, progress: ProgressCallback = ignore
) -> Ranker:
    """A ranker by evidence alone, from these interactions with a catalogue of ascending ids.

    Weighing interactions by their rating gave evidence alone an NDCG@20 of .404 where all the
    same gave .370, on MovieLens 100k with ratings of 7 and more as relevant, and .0686 where all
    the same gave .0681 on Book-Crossing's core. One without rating counts as the mean rated one.
    """
    weights = exact.voices(known.ratings, np.nan)
    unrated = float(np.nanmean(weights)) if np.isfinite(weights).any() else 1.0
    met = met_by(known, np.unique(known.user_ids), item_ids)
    voices = exact.voices(met.ratings, unrated).astype(np.float32)
    fitted = fit_item_weights(met.matrix(voices, len(item_ids)), progress=progress)
    return unmixed(item_ids, fitted, unrated)


def unmixed(item_ids: Index, weights: sparse.csr_array, unrated_weight: float = 1.0) -> Ranker:
    """A ranker by evidence alone. weights: (items, items), as fit_item_weights returns them."""
    return Ranker(
        item_ids=item_ids,
        offsets=weights.indptr.astype(np.int64),
        sources=weights.indices.astype(np.int64),
        weights=weights.data.astype(np.float32),
        leads=_leads(item_ids, weights),
        similarity_weight=0.0,
        unrated_weight=unrated_weight,
        candidates=CANDIDATES,
    )


def _leads(item_ids: Index, weights: sparse.csr_array) -> Index:
    """The items (items, LEADS) that each item speaks for most, best first, padded with -1."""
    by_source = weights.T.tocsr()
    leads = np.full((len(item_ids), LEADS), -1, dtype=np.int64)
    for row in range(len(item_ids)):
        part = slice(by_source.indptr[row], by_source.indptr[row + 1])
        values, targets = by_source.data[part], by_source.indices[part]
        order = np.lexsort((targets, -values))[:LEADS]
        order = order[values[order] > 0]
        leads[row, : len(order)] = item_ids[targets[order]]
    return leads


def mix(
    ranker: Ranker, vectors: TrainedVectors, known: Interactions, validation: Interactions
) -> Mixed | None:
    """Choose how much similarity counts beside evidence, by NDCG@20 on held-out interactions.

    `validation` has one interaction a user, which is not in `known` and which neither vectors
    nor weights were fitted to. None where there are too few users to choose by.
    """
    users = validation.user_ids
    if len(users) < LEAST_USERS:
        return None
    drawn = list(_validation_blocks(Stage(ranker), vectors, known, validation))
    deviation = float(np.sqrt(np.mean([block.variance for block in drawn]))) or 1.0
    weights = np.array(MIXTURES) / deviation
    means = np.array([_mean_ndcg(drawn, weight) for weight in weights])
    # A mixture whose neighbours are good too is better than one that happens to stand out.
    kernel = np.array([1, 2, 3, 2, 1]) / 9
    best = int(np.argmax(np.convolve(np.pad(means, 2, mode="edge"), kernel, mode="valid")))
    return Mixed(
        replace(ranker, similarity_weight=float(weights[best])),
        float(means[best]),
        _mean_ndcg(drawn, None),
    )


@dataclass(frozen=True)
class _Block:
    """Validation users' candidates, one after the other: (c,) each; those of user i from
    offsets[i]. `targets` (users,): the held-out item's place among all, -1 if it is not among
    the candidates; `nearer` (users,): how many items are nearer to the user's vector."""

    similarities: NDArray[np.float64]
    evidence: NDArray[np.float64]
    offsets: Index
    targets: Index
    nearer: Index
    variance: float


def _validation_blocks(
    stage: Stage, vectors: TrainedVectors, known: Interactions, validation: Interactions
) -> Iterator[_Block]:
    at_once = max(_PAIRS_AT_ONCE // len(vectors.item_ids), 1)
    items = vectors.item_embeddings.astype(np.float64)
    for start in range(0, len(validation), at_once):
        users = validation.user_ids[start : start + at_once]
        wanted = np.searchsorted(vectors.item_ids, validation.item_ids[start : start + at_once])
        met = met_by(known, users, vectors.item_ids)
        similarities = user_vectors(vectors, met, users) @ items.T
        own = similarities[np.arange(len(users)), wanted]
        similarities[np.repeat(np.arange(len(users)), np.diff(met.offsets)), met.items] = -np.inf
        history = met.newest(vectors.max_history)
        looked_at = stage.candidates(similarities, history)
        rows, columns = np.nonzero(looked_at)
        offsets = np.searchsorted(rows, np.arange(len(users) + 1))
        at = np.flatnonzero(columns == wanted[rows])
        targets = np.full(len(users), -1, dtype=np.int64)
        targets[rows[at]] = at
        allowed = np.where(np.isfinite(similarities), similarities, np.nan)
        yield _Block(
            similarities[rows, columns],
            stage.evidence(history)[rows, columns],
            offsets,
            targets,
            (similarities > own[:, None]).sum(axis=1),
            float(np.nanvar(allowed, axis=1).mean()),
        )


def _mean_ndcg(blocks: list[_Block], weight: float | None) -> float:
    """Mean NDCG@20 of the held-out items at a mixture; None: by similarity alone."""
    gains = []
    for block in blocks:
        if weight is None:
            better = block.nearer
        else:
            scores = weight * block.similarities + block.evidence
            lengths = np.diff(block.offsets)
            own = np.where(block.targets >= 0, scores[block.targets], np.inf)
            above = scores > np.repeat(own, lengths)
            better = np.add.reduceat(np.append(above, False), block.offsets[:-1]) * (lengths > 0)
            better = np.where(block.targets >= 0, better, len(scores))
        gains.append(np.where(better < 20, 1 / np.log2(better + 2.0), 0.0))
    return float(np.concatenate(gains).mean())
