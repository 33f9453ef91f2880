"""Clusters of item vectors: K-means and Gaussian mixtures, by scikit-learn."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tterec.errors import InvalidArgument, TterecError
from tterec.records import ClusterMethod, Clusters, Progress, ProgressCallback, ignore

GRID = (2, 4, 8, 16, 32, 64, 128)
"""Numbers of clusters among which the elbow is looked for."""
SAMPLE = 10_000
"""Vectors, drawn by lot, by which the number is chosen and a mixture is fitted."""
_KMEANS_SAMPLE = 50_000
# Of a mixture, which hardly changes after these: 40,000 x 64 vectors are clustered in a minute.
_MOST_STEPS = 50
_ROWS_AT_ONCE = 16_384
MISSING = "clusters need scikit-learn; run: pip install 'tterec[cluster]'"


class _Fitted(Protocol):
    """A fitted clustering, what it costs (the less the better), and its centres (c, d)."""

    cost: float
    centres: NDArray[np.floating]

    def labels(self, vectors: NDArray[np.float32]) -> NDArray[np.int64]: ...


def available() -> bool:
    """Whether scikit-learn is installed."""
    from importlib.util import find_spec

    return find_spec("sklearn") is not None


def fit_clusters(
    item_ids: NDArray[np.int64],
    vectors: NDArray[np.float32],
    method: ClusterMethod,
    clusters: int | None = None,
    *,
    seed: int = 0,
    progress: ProgressCallback = ignore,
) -> Clusters:
    """Cluster item embeddings (n, d) into `clusters` clusters, or as many as the elbow says.

    The elbow is that of the inertia (kmeans) or of the BIC (gmm, diagonal covariances) over GRID.
    With kmeans an item is in the cluster of the nearest centre, with gmm in that of the most
    probable component, whose mean is the centre. Raises InvalidArgument where there are fewer
    items than clusters, and TterecError without scikit-learn.
    """
    if not available():
        raise TterecError(MISSING)
    if clusters is not None and not 1 <= clusters <= len(vectors):
        raise InvalidArgument(
            f"{clusters} clusters of {len(vectors):,} books cannot be; choose 1 to {len(vectors):,}"
        )
    if not len(vectors):
        raise InvalidArgument("there are no item vectors to cluster; run: tterec train")
    drawn = np.random.default_rng(seed).permutation(len(vectors))
    fit = _kmeans if method == "kmeans" else _mixture
    if clusters is None:
        sample = vectors[np.sort(drawn[:SAMPLE])]
        # A cluster of one item tells nothing.
        grid = [size for size in GRID if 2 * size <= len(sample)] or [1]
        costs = [0.0] * len(grid)
        for done, size in enumerate(grid if len(grid) > 1 else ()):
            progress(Progress("number of clusters", done, len(grid)))
            costs[done] = fit(sample, size, seed).cost
        clusters = elbow(grid, costs)
    if clusters == 1:
        centre = vectors.mean(axis=0, dtype=np.float64, keepdims=True).astype(np.float32)
        return Clusters(method, centre, item_ids, np.zeros(len(vectors), dtype=np.int64))
    progress(Progress(f"{clusters} clusters", 0, 1))
    most = max(_KMEANS_SAMPLE if method == "kmeans" else SAMPLE, clusters)
    fitted = fit(vectors[np.sort(drawn[:most])], clusters, seed)
    labels = [
        fitted.labels(vectors[start : start + _ROWS_AT_ONCE])
        for start in range(0, len(vectors), _ROWS_AT_ONCE)
    ]
    progress(Progress(f"{clusters} clusters", 1, 1))
    return Clusters(
        method, fitted.centres.astype(np.float32), item_ids, np.concatenate(labels).astype(np.int64)
    )


def elbow(sizes: Sequence[int], costs: Sequence[float]) -> int:
    """Where a falling curve bends most: the size whose point lies farthest below the chord.

    From the least to the greatest size, or to the least cost where the curve rises again.
    """
    end = int(np.argmin(costs))
    x = np.array(sizes[: end + 1], dtype=np.float64)
    y = np.array(costs[: end + 1], dtype=np.float64)
    if len(x) < 3:
        return sizes[end]
    below = (x[-1] - x) / (x[-1] - x[0]) - (y - y[-1]) / (y[0] - y[-1])
    return sizes[int(np.argmax(below))]


class _Kmeans:
    def __init__(self, vectors: NDArray[np.float32], clusters: int, seed: int) -> None:
        from sklearn.cluster import KMeans

        self._model: Any = KMeans(clusters, n_init=1, random_state=seed % 2**32)
        with warnings.catch_warnings():
            # Of fewer distinct vectors than clusters: then some clusters are empty.
            warnings.simplefilter("ignore")
            self._model.fit(vectors)
        self.cost = float(self._model.inertia_)
        self.centres: NDArray[np.floating] = self._model.cluster_centers_

    def labels(self, vectors: NDArray[np.float32]) -> NDArray[np.int64]:
        found: NDArray[np.int64] = self._model.predict(vectors)
        return found


class _Mixture:
    def __init__(self, vectors: NDArray[np.float32], clusters: int, seed: int) -> None:
        from sklearn.mixture import GaussianMixture

        self._model: Any = GaussianMixture(
            clusters, covariance_type="diag", max_iter=_MOST_STEPS, random_state=seed % 2**32
        )
        with warnings.catch_warnings():
            # Of a fit that has not converged, too: it is good enough.
            warnings.simplefilter("ignore")
            self._model.fit(vectors.astype(np.float64))
        self.cost = float(self._model.bic(vectors.astype(np.float64)))
        self.centres: NDArray[np.floating] = self._model.means_

    def labels(self, vectors: NDArray[np.float32]) -> NDArray[np.int64]:
        found: NDArray[np.int64] = self._model.predict(vectors.astype(np.float64))
        return found


def _kmeans(vectors: NDArray[np.float32], clusters: int, seed: int) -> _Fitted:
    return _Kmeans(vectors, clusters, seed)


def _mixture(vectors: NDArray[np.float32], clusters: int, seed: int) -> _Fitted:
    return _Mixture(vectors, clusters, seed)
