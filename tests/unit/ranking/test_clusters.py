"""Clusters of vectors, and how many of them."""

from __future__ import annotations

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

from tterec.errors import InvalidArgument, TterecError
from tterec.ranking import clusters
from tterec.ranking.clusters import elbow, fit_clusters
from tterec.records import ClusterMethod


def clumps(count: int, each: int = 40) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(count), each)
    centres = rng.normal(size=(count, 6)) * 5
    return labels, (centres[labels] + rng.normal(size=(len(labels), 6)) * 0.1).astype(np.float32)


@pytest.mark.parametrize("method", ["kmeans", "gmm"])
def test_planted_clumps_are_found_again(method: ClusterMethod) -> None:
    labels, vectors = clumps(4)
    found = fit_clusters(np.arange(len(labels)), vectors, method, seed=1)
    assert found.centres.shape == (4, 6)
    assert found.centres.dtype == np.float32
    pairs = set(zip(labels.tolist(), found.labels.tolist(), strict=True))
    assert len(pairs) == 4
    for label, cluster in pairs:
        assert found.centres[cluster] == pytest.approx(vectors[labels == label].mean(0), abs=0.1)


@pytest.mark.parametrize("method", ["kmeans", "gmm"])
def test_the_same_seed_gives_the_same_clusters(method: ClusterMethod) -> None:
    _, vectors = clumps(3)
    first, again = (fit_clusters(np.arange(120), vectors, method, 7, seed=2) for _ in range(2))
    assert np.array_equal(first.labels, again.labels)
    assert len(first.centres) == 7


def test_identical_and_few_vectors_are_clustered_too() -> None:
    same = np.ones((5, 3), dtype=np.float32)
    assert fit_clusters(np.arange(5), same, "kmeans", 3).labels.max() <= 2
    assert fit_clusters(np.arange(1), same[:1], "gmm").labels.tolist() == [0]


@pytest.mark.parametrize("asked", [0, 6])
def test_more_clusters_than_items_are_refused(asked: int) -> None:
    with pytest.raises(InvalidArgument, match="choose 1 to 5"):
        fit_clusters(np.arange(5), np.ones((5, 3), dtype=np.float32), "kmeans", asked)


def test_the_elbow_is_where_the_curve_bends_most() -> None:
    assert elbow([2, 4, 8, 16, 32], [100, 40, 20, 18, 17]) == 8
    assert elbow([2, 4, 8, 16], [100, 50, 45, 60]) == 4, "what comes after the least is ignored"
    assert elbow([2, 4, 8], [1, 2, 3]) == 2
    assert elbow([1], [3.0]) == 1


def test_without_scikit_learn_one_line_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert not clusters.available()
    with pytest.raises(TterecError, match=r"pip install 'tterec\[cluster\]'"):
        fit_clusters(np.arange(2), np.ones((2, 2), dtype=np.float32), "kmeans")


def test_scikit_learn_is_imported_for_clusters_only() -> None:
    code = "import sys, tterec.recommender, tterec.judging; assert 'sklearn' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
