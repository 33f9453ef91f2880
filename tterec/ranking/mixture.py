"""How similarity, evidence and traits are mixed: by NDCG@20 on held-out interactions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tterec.ranking import exact
from tterec.ranking.histories import Index, Met, met_by, user_vectors
from tterec.ranking.second_stage import Stage
from tterec.ranking.traits import Trait
from tterec.records import Interactions, Ranker, TrainedVectors

SIMILARITY_WEIGHTS = (0.0, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56)
"""To choose from, in units of one over the standard deviation of a user's similarities."""
TRAIT_WEIGHTS = (0.0, 0.005, 0.01, 0.02, 0.04)
"""To choose from, for each trait. On Book-Crossing's core the author at .02 and the publisher at
.02 raised NDCG@20 from .0874 to .0897 and .0893; genres lower it on MovieLens 100k. The age of an
item and its popularity moved it by no more than .0004 on either, whatever their weight, and are
not mixed in."""
LEAST_USERS = 50
"""Fewer validation users could not tell a good mixture from a lucky one."""
_PAIRS_AT_ONCE = 2**23


class Mixture(NamedTuple):
    """Weights of the similarity and of each trait, NDCG@20 on validation with them, and that of
    similarity alone."""

    similarity: float
    traits: list[float]
    ndcg: float
    ndcg_without: float


def mix(
    ranker: Ranker,
    traits: Sequence[Trait],
    vectors: TrainedVectors,
    known: Interactions,
    validation: Interactions,
) -> Mixture | None:
    """Choose how much similarity and shared traits count beside evidence.

    `validation` has one interaction a user, which is not in `known` and which neither vectors
    nor weights were fitted to. None where there are too few users to choose by.
    """
    if len(validation) < LEAST_USERS:
        return None
    blocks = list(_blocks(Stage(ranker), traits, vectors, known, validation))
    deviation = float(np.sqrt(np.mean([block.variance for block in blocks]))) or 1.0
    # Of the similarity and of each trait. Twice, because the best weight of one depends on others.
    choices = [np.array(SIMILARITY_WEIGHTS) / deviation, *[np.array(TRAIT_WEIGHTS)] * len(traits)]
    weights = np.zeros(len(choices))
    for _ in range(2 if traits else 1):
        for place, some in enumerate(choices):
            weights[place] = _best(blocks, weights, place, some)
    return Mixture(
        float(weights[0]),
        weights[1:].tolist(),
        _mean_ndcg(blocks, weights),
        _mean_ndcg(blocks, None),
    )


def _best(
    blocks: list[_Block],
    weights: NDArray[np.float64],
    place: int,
    choices: NDArray[np.float64],
) -> float:
    """The best of some choices for one of the weights."""
    means = []
    for choice in choices:
        weights[place] = choice
        means.append(_mean_ndcg(blocks, weights))
    # A choice whose neighbours are good too is better than one that happens to stand out.
    kernel = np.array([1, 2, 3, 2, 1]) / 9
    smooth = np.convolve(np.pad(means, 2, mode="edge"), kernel, mode="valid")
    return float(choices[int(np.argmax(smooth))])


@dataclass(frozen=True)
class _Block:
    """Validation users' candidates, one after the other, those of user i from offsets[i].

    parts: (1 + traits, c), what is weighed. evidence: (c,). targets (users,): the held-out item's
    place among all, -1 if it is not among the candidates; nearer (users,): how many items are
    nearer to the user's vector.
    """

    parts: NDArray[np.float64]
    evidence: NDArray[np.float64]
    offsets: Index
    targets: Index
    nearer: Index
    variance: float


def _blocks(
    stage: Stage,
    traits: Sequence[Trait],
    vectors: TrainedVectors,
    known: Interactions,
    validation: Interactions,
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
        rows, columns = np.nonzero(stage.candidates(similarities, history))
        at = np.flatnonzero(columns == wanted[rows])
        targets = np.full(len(users), -1, dtype=np.int64)
        targets[rows[at]] = at
        allowed = np.where(np.isfinite(similarities), similarities, np.nan)
        shared = [_shared(stage, history, trait)[rows, columns] for trait in traits]
        yield _Block(
            np.stack([similarities[rows, columns], *shared]),
            stage.evidence(history)[rows, columns],
            np.searchsorted(rows, np.arange(len(users) + 1)),
            targets,
            (similarities > own[:, None]).sum(axis=1),
            float(np.nanvar(allowed, axis=1).mean()),
        )


def _shared(stage: Stage, history: Met, trait: Trait) -> NDArray[np.float64]:
    """What the items met say for every item by a trait of weight 1: (users, items)."""
    voices = exact.voices(history.ratings, stage.ranker.unrated_weight)
    met = history.matrix(voices, len(stage.ranker.item_ids))
    found: NDArray[np.float64] = ((met @ trait.values).log1p() @ trait.values.T).toarray()
    return found


def _mean_ndcg(blocks: list[_Block], weights: NDArray[np.float64] | None) -> float:
    """Mean NDCG@20 of the held-out items with these weights; None: by similarity alone."""
    gains = []
    for block in blocks:
        if weights is None:
            better = block.nearer
        else:
            scores = (weights @ block.parts + block.evidence).round(exact.DECIMALS)
            lengths = np.diff(block.offsets)
            own = np.repeat(np.where(block.targets >= 0, scores[block.targets], np.inf), lengths)
            earlier = np.arange(len(scores)) < np.repeat(block.targets, lengths)
            above = (scores > own) | ((scores == own) & earlier)  # candidates stand by id
            better = np.add.reduceat(np.append(above, False), block.offsets[:-1]) * (lengths > 0)
            better = np.where(block.targets >= 0, better, len(scores))
        gains.append(np.where(better < 20, 1 / np.log2(better + 2.0), 0.0))
    return float(np.concatenate(gains).mean())
