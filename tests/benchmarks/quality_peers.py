"""The tools that people would take instead, each behind the same two functions: draw and fit.

`draw` gives settings to try: the good ones of the literature first, then random ones from a space
that is written beside it. `fit` learns and returns a scorer: rows of users to float32 scores
(users, items) over the whole catalogue.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, sparse
from threadpoolctl import threadpool_limits

from tests.benchmarks.quality_features import tokens
from tests.benchmarks.quality_sets import QualitySet
from tterec.evaluation.metrics import PADDING

Scores = NDArray[np.float32]
Scorer = Callable[[NDArray[np.int64]], Scores]
Settings = dict[str, Any]
EASE_SIDE = 16_000
"""EASE inverts a dense matrix of items by items or users by users: with this many 1 GB, thrice,
and minutes."""
_UNRATED = 0.8
_PAIRS_AT_ONCE = 2**24


@dataclass(frozen=True)
class Problem:
    """A set as peers take it: rows are the users who have met something, columns the catalogue."""

    data: QualitySet
    threads: int

    @property
    def user_ids(self) -> NDArray[np.int64]:
        """The ids of the rows: int64 (users,), ascending."""
        return np.unique(self.data.train.user_ids)

    def matrix(self, power: float = 0.0) -> sparse.csr_matrix:
        """float32 (users, items): (rating / 10) to a power where they met, .8 for no rating."""
        train = self.data.train
        values = np.where(np.isnan(train.ratings), _UNRATED, train.ratings / 10) ** power
        rows = np.searchsorted(self.user_ids, train.user_ids)
        columns = np.searchsorted(self.data.items.ids, train.item_ids)
        shape = (len(self.user_ids), len(self.data.items))
        # implicit and lightfm take matrices, not arrays.
        return sparse.csr_matrix((values.astype(np.float32), (rows, columns)), shape=shape)

    def lists(self, scorer: Scorer, k: int) -> NDArray[np.int64]:
        """The k best items that each judged user has not met: int64 (judged, k)."""
        met = self.matrix()
        judged = np.searchsorted(self.user_ids, self.data.judged)
        lists = np.full((len(judged), k), PADDING, dtype=np.int64)
        at_once = max(_PAIRS_AT_ONCE // met.shape[1], 1)
        for start in range(0, len(judged), at_once):
            rows = judged[start : start + at_once]
            scores = np.array(scorer(rows), dtype=np.float32)
            scores[met[rows].nonzero()] = -np.inf
            best = np.argpartition(-scores, k, axis=1)[:, :k]
            found = np.take_along_axis(scores, best, axis=1)
            order = np.lexsort((best, -found), axis=1)
            best, found = (np.take_along_axis(part, order, axis=1) for part in (best, found))
            ids = np.where(found > -np.inf, self.data.items.ids[best], PADDING)
            lists[start : start + at_once] = ids
        return lists


@dataclass(frozen=True)
class Peer:
    """One tool: what to try as its settings, at most `tries` of them, and how it learns."""

    name: str
    first: tuple[Settings, ...]
    draw: Callable[[np.random.Generator], Settings] | None
    fit: Callable[[Problem, Settings], Scorer]
    most: float = float("inf")
    """Of users or items, whichever are fewer."""


def _popularity(problem: Problem, settings: Settings) -> Scorer:
    counts = np.asarray(problem.matrix(settings["power"]).sum(axis=0)).ravel()
    return lambda rows: np.tile(counts, (len(rows), 1))


def _item_knn(problem: Problem, settings: Settings) -> Scorer:
    from implicit import nearest_neighbours as kinds

    options = dict(settings)
    kind, power = options.pop("kind"), options.pop("power")
    matrix = problem.matrix(power)
    model = getattr(kinds, f"{kind}Recommender")(num_threads=problem.threads, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the form in which it hands itself a matrix
        model.fit(matrix, show_progress=False)
    # Where no neighbour says anything, the popular comes first; the tool leaves it to chance.
    filling = -1 / (1 + problem.matrix().sum(axis=0).A1)

    def scores(rows: NDArray[np.int64]) -> Scores:
        found = (matrix[rows] @ model.similarity).toarray()
        return np.where(found > 0, found, filling)

    return scores


def _draw_item_knn(random: np.random.Generator) -> Settings:
    kind = str(random.choice(["Cosine", "TFIDF", "BM25"]))
    settings: Settings = {
        "kind": kind,
        "K": int(random.choice([20, 50, 100, 200, 400, 1000])),
        "power": float(random.choice([0, 1, 2])),
    }
    if kind == "BM25":
        settings |= {"K1": _between(random, 0.1, 100), "B": float(random.uniform(0, 1))}
    return settings


def _ials(problem: Problem, settings: Settings) -> Scorer:
    from implicit.als import AlternatingLeastSquares

    options = dict(settings)
    matrix = problem.matrix(options.pop("power"))
    model = AlternatingLeastSquares(num_threads=problem.threads, random_state=0, **options)
    with threadpool_limits(1, "blas"):  # it spreads users over threads itself
        model.fit(matrix, show_progress=False)
    return lambda rows: model.user_factors[rows] @ model.item_factors.T


def _draw_ials(random: np.random.Generator) -> Settings:
    return {
        "factors": int(random.choice([32, 64, 128, 256])),
        "regularization": _between(random, 0.1, 300),
        "alpha": _between(random, 1, 50),
        "iterations": int(random.choice([10, 15, 25])),
        "power": float(random.choice([0, 1, 2])),
    }


def _bpr(problem: Problem, settings: Settings) -> Scorer:
    """It draws negatives by popularity, which costs it much where few items are very popular."""
    from implicit.bpr import BayesianPersonalizedRanking

    model = BayesianPersonalizedRanking(num_threads=problem.threads, random_state=0, **settings)
    model.fit(problem.matrix(), show_progress=False)
    # The last column is the items' bias.
    return lambda rows: model.user_factors[rows] @ model.item_factors.T


def _draw_bpr(random: np.random.Generator) -> Settings:
    return {
        "factors": int(random.choice([32, 64, 128])),
        "learning_rate": _between(random, 0.01, 0.2),
        "regularization": _between(random, 0.003, 0.5),
        "iterations": int(random.choice([50, 100, 200])),
    }


def _ease(problem: Problem, settings: Settings) -> Scorer:
    """Steck 2019: scores X B, where B = I - P / diag(P) and P = (X'X + λ I)^-1 of items by items.

    With fewer users than items the same scores come from K = (XX' + λ I)^-1 of users by users,
    for a fraction of the time: X P = K X and diag(P) = (1 - diag(X'K X)) / λ.
    """
    matrix, ridge = problem.matrix(settings["power"]), settings["ridge"]
    by_user = matrix.shape[0] < matrix.shape[1]
    with threadpool_limits(problem.threads, "blas"):
        gram = (matrix @ matrix.T if by_user else matrix.T @ matrix).toarray()
        gram[np.diag_indices_from(gram)] += ridge
        inverse = linalg.inv(gram, overwrite_a=True, assume_a="pos")
    if by_user:
        explained = matrix.multiply(inverse @ matrix).sum(axis=0).A1
        diagonal = (1 - explained) / ridge
        return lambda rows: matrix[rows].toarray() - inverse[rows] @ matrix / diagonal
    inverse /= -np.diag(inverse).copy()
    np.fill_diagonal(inverse, 0)
    return lambda rows: matrix[rows] @ inverse


def _draw_ease(random: np.random.Generator) -> Settings:
    return {"ridge": _between(random, 3, 3000), "power": float(random.choice([0, 1, 2]))}


def _lightfm(problem: Problem, settings: Settings) -> Scorer:
    from lightfm import LightFM

    options = dict(settings)
    epochs, normalised = options.pop("epochs"), options.pop("normalised")
    data = problem.data
    rows = np.searchsorted(data.users.ids, problem.user_ids)
    users = _with_identity(tokens(data.users)[rows], normalised)
    items = _with_identity(tokens(data.items), normalised)
    model = LightFM(loss="warp", random_state=0, **options)
    model.fit(
        problem.matrix().tocoo(),
        user_features=users,
        item_features=items,
        epochs=epochs,
        num_threads=problem.threads,
    )
    item_biases, item_vectors = model.get_item_representations(items)
    _, user_vectors = model.get_user_representations(users)
    return lambda rows: user_vectors[rows] @ item_vectors.T + item_biases


def _draw_lightfm(random: np.random.Generator) -> Settings:
    return {
        "no_components": int(random.choice([32, 64, 128])),
        "epochs": int(random.choice([5, 10, 20, 40])),
        "learning_rate": float(random.choice([0.02, 0.05, 0.1])),
        "item_alpha": float(random.choice([0, 1e-6, 1e-5])),
        "user_alpha": float(random.choice([0, 1e-6, 1e-5])),
        "max_sampled": int(random.choice([10, 30])),
        "normalised": bool(random.random() < 0.5),
    }


def _with_identity(features: sparse.csr_matrix, normalised: bool) -> sparse.csr_matrix:
    whole = sparse.hstack([sparse.identity(features.shape[0], dtype=np.float32), features]).tocsr()
    if normalised:
        whole = sparse.diags(1 / whole.sum(axis=1).A1) @ whole
    return whole.astype(np.float32)


def _between(random: np.random.Generator, low: float, high: float) -> float:
    """A draw that is uniform in its logarithm, to three digits."""
    return float(f"{np.exp(random.uniform(np.log(low), np.log(high))):.3g}")


PEERS = {
    peer.name: peer
    for peer in (
        Peer("popularity", ({"power": 0.0}, {"power": 1.0}, {"power": 2.0}), None, _popularity),
        Peer(
            "item-knn",
            (
                {"kind": "Cosine", "K": 100, "power": 0.0},
                {"kind": "TFIDF", "K": 100, "power": 0.0},
                {"kind": "BM25", "K": 200, "power": 0.0, "K1": 1.2, "B": 0.75},
                {"kind": "Cosine", "K": 1000, "power": 1.0},
            ),
            _draw_item_knn,
            _item_knn,
        ),
        Peer(
            "ials",
            tuple(
                {
                    "factors": factors,
                    "regularization": regularization,
                    "alpha": alpha,
                    "iterations": 15,
                    "power": power,
                }
                for factors, regularization, alpha, power in (
                    (256, 60.0, 10.0, 1.0),
                    (128, 100.0, 40.0, 0.0),
                    (64, 10.0, 5.0, 1.0),
                    (128, 30.0, 10.0, 1.0),
                )
            ),
            _draw_ials,
            _ials,
        ),
        Peer(
            "bpr",
            (
                {"factors": 64, "learning_rate": 0.05, "regularization": 0.01, "iterations": 100},
                {"factors": 32, "learning_rate": 0.05, "regularization": 0.1, "iterations": 100},
                {"factors": 64, "learning_rate": 0.1, "regularization": 0.03, "iterations": 100},
            ),
            _draw_bpr,
            _bpr,
        ),
        Peer(
            "ease",
            tuple(
                {"ridge": ridge, "power": power}
                for ridge, power in ((100.0, 1.0), (400.0, 1.0), (25.0, 1.0), (100.0, 0.0))
            ),
            _draw_ease,
            _ease,
            EASE_SIDE,
        ),
        Peer(
            "lightfm",
            tuple(
                {
                    "no_components": components,
                    "epochs": epochs,
                    "learning_rate": 0.05,
                    "item_alpha": alpha,
                    "user_alpha": alpha,
                    "max_sampled": 10,
                    "normalised": normalised,
                }
                for components, epochs, alpha, normalised in (
                    (64, 20, 0.0, False),
                    (64, 20, 0.0, True),
                    (64, 10, 1e-6, True),
                )
            ),
            _draw_lightfm,
            _lightfm,
        ),
    )
}
