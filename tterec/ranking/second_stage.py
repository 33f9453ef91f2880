"""The second stage: candidates of both kinds, ordered by item-item evidence and similarity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from tterec import arrays
from tterec.ranking import exact
from tterec.ranking.histories import Index, Met, met_by_all, paired
from tterec.ranking.item_weights import fit_item_weights
from tterec.ranking.traits import Trait
from tterec.records import LEADERS, Interactions, ProgressCallback, Ranker, TraitValue, ignore

CANDIDATES = 200
"""Items nearest to the user's vector that the second stage looks at. With 100 the first 20 were
as good as with all items, on Book-Crossing's core (NDCG@20 .0844) and on MovieLens 100k (.380)."""
LEADS = 5
"""Items that it looks at for each of the LEADERS. On Book-Crossing's core 10 gave an NDCG@20 of
.0923, 5 gave .0922, and none .0919; of readers of 100 books .149, .151 and .146."""


class Stage:
    """A ranker in memory, for many users at once."""

    def __init__(self, ranker: Ranker) -> None:
        items = len(ranker.item_ids)
        self.ranker = ranker
        self._by_source = sparse.csr_array(
            (ranker.weights, ranker.sources, ranker.offsets), shape=(items, ranker.width)
        ).T.tocsr()
        self._traits = sparse.csr_array(
            (np.ones(len(ranker.traits)), ranker.traits - items, ranker.trait_offsets),
            shape=(items, ranker.width - items),
        )
        filled = ranker.leads >= 0
        led = np.searchsorted(ranker.item_ids, ranker.leads[filled])
        offsets = np.concatenate([[0], np.cumsum(filled.sum(axis=1))])
        self._leads = sparse.csr_array((np.ones(len(led)), led, offsets), shape=(items, items))

    def evidence(self, history: Met) -> NDArray[np.float64]:
        """What the items met say for every item: (users, items)."""
        found: NDArray[np.float64] = self._evidence(history).toarray()
        return found

    def evidence_for(self, history: Met, users: Index, rows: Index) -> NDArray[np.float64]:
        """The same for some pairs of user and item alone, int64 (p,) each: (p,)."""
        evidence = self._evidence(history)
        evidence.sort_indices()
        width = evidence.shape[1]
        spoken = np.repeat(np.arange(evidence.shape[0]), np.diff(evidence.indptr)) * width
        spoken += evidence.indices
        wanted = users * width + rows
        places = np.searchsorted(spoken, wanted).clip(max=max(len(spoken) - 1, 0))
        if not len(spoken):
            return np.zeros(len(wanted))
        return np.where(spoken[places] == wanted, evidence.data[places], 0.0)

    def _evidence(self, history: Met) -> sparse.csr_array:
        voices = exact.voices(history.ratings, self.ranker.unrated_weight)
        met = history.matrix(voices, len(self.ranker.item_ids))
        spoken = sparse.hstack([met, (met @ self._traits).log1p()], format="csr")
        for row in np.flatnonzero(np.diff(spoken.indptr) > exact.MOST_VOICES):
            part = slice(spoken.indptr[row], spoken.indptr[row + 1])
            kept, _ = exact.loudest(spoken.indices[part], spoken.data[part])
            spoken.data[part][~np.isin(spoken.indices[part], kept)] = 0.0
        return spoken @ self._by_source

    def led_by(self, history: Met) -> tuple[Index, Index]:
        """Users and rows (p,) each: the items that the first LEADERS of what each user has met
        speak for most, some more than once."""
        asked = history.newest(LEADERS)
        led = self._leads[asked.items]
        users = np.repeat(np.arange(len(asked)), np.diff(asked.offsets))
        return np.repeat(users, np.diff(led.indptr)), led.indices.astype(np.int64)

    def candidates(
        self, similarities: NDArray[np.floating], history: Met, at_least: int = 0
    ) -> NDArray[np.bool_]:
        """Which items are looked at: bool (users, items).

        similarities: (users, items), -inf where an item may not be recommended. `at_least` so
        many of those nearest are candidates, where so many are asked for.
        """
        most = max(self.ranker.candidates, at_least)
        asked = history.newest(LEADERS)
        met = asked.matrix(np.ones(len(asked.items)), len(self.ranker.item_ids))
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


def fit_evidence(
    known: Interactions,
    item_ids: Index,
    progress: ProgressCallback = ignore,
    without: Interactions | None = None,
) -> Ranker:
    """A ranker by evidence alone, from these interactions with a catalogue of ascending ids, but
    not from the pairs of user and item that are `without`.

    Weighing interactions by their rating gave evidence alone an NDCG@20 of .404 where all the
    same gave .370, on MovieLens 100k with ratings of 7 and more as relevant, and .0686 where all
    the same gave .0681 on Book-Crossing's core. One without rating counts as the mean rated one.
    """
    unrated = _mean_voice(known, without)
    _, met = met_by_all(known, item_ids, without)
    voices = arrays.empty(len(met.items), np.float32)
    for piece in arrays.pieces(len(voices)):
        voices[piece] = exact.voices(met.ratings[piece], unrated)
    matrix = met.matrix(voices, len(item_ids))
    del met, voices  # the ratings are needed no more
    return unmixed(item_ids, fit_item_weights(matrix, progress=progress), unrated)


def _mean_voice(known: Interactions, without: Interactions | None) -> float:
    """How much the mean rated interaction counts; 1 where none is rated."""
    voices, at, rated = arrays.empty(len(known), np.float64), 0, 0
    for piece in arrays.pieces(len(known)):
        part = known.select(piece)
        ratings = part.ratings if without is None else part.ratings[~paired(part, without)]
        given = ~np.isnan(ratings)
        voices[at : at + len(ratings)] = np.where(given, exact.voices(ratings, 0.0), 0.0)
        at += len(ratings)
        rated += int(np.count_nonzero(given))
    return float(voices[:at].sum() / rated) if rated else 1.0


def unmixed(item_ids: Index, weights: sparse.csr_array, unrated_weight: float = 1.0) -> Ranker:
    """A ranker by evidence alone. weights: (items, items), as fit_item_weights returns them."""
    return Ranker(
        item_ids=item_ids,
        offsets=weights.indptr.astype(np.int64),
        sources=weights.indices.astype(np.int64),
        weights=weights.data.astype(np.float32),
        leads=_leads(item_ids, weights),
        width=len(item_ids),
        trait_offsets=np.zeros(len(item_ids) + 1, dtype=np.int64),
        traits=np.zeros(0, dtype=np.int64),
        similarity_weight=0.0,
        unrated_weight=unrated_weight,
        candidates=CANDIDATES,
    )


def with_traits(ranker: Ranker, traits: Sequence[Trait], weights: Sequence[float]) -> Ranker:
    """The ranker with these traits too, of a weight each; those of weight 0 are left out."""
    items = len(ranker.item_ids)
    chosen = [pair for pair in zip(traits, weights, strict=True) if pair[1]]
    kept = [(trait.values, weight) for trait, weight in chosen]
    if not kept:
        return ranker
    speaking = sparse.csr_array(
        (ranker.weights, ranker.sources, ranker.offsets), shape=(items, ranker.width)
    )
    weighted = [values * weight for values, weight in kept]
    both = sparse.hstack([speaking, *weighted], format="csr")
    both.sort_indices()
    had = sparse.hstack([values for values, _ in kept], format="csr")
    had.sort_indices()
    return replace(
        ranker,
        offsets=both.indptr.astype(np.int64),
        sources=both.indices.astype(np.int64),
        weights=both.data.astype(np.float32),
        width=both.shape[1],
        trait_offsets=had.indptr.astype(np.int64),
        traits=had.indices.astype(np.int64) + items,
        trait_values=tuple(
            TraitValue(trait.name, text, float(weight))
            for trait, weight in chosen
            for text in trait.texts
        ),
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
