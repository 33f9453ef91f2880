"""Items' embeddings from the singular vectors of the interactions: a warm start."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import svds
from torch import Tensor

from tterec.towers.histories import Histories

DAMPING = 0.3
"""A column of the matrix is divided by its item's interactions to this power, or the first
singular vectors would tell popular items from others and nothing else. NDCG@20 of the plain
truncated SVD on an anime set: .381 with .3."""
NORM = 0.5
"""Root mean square of the embeddings' norms."""


def spectral_items(histories: Histories, noise: Tensor, seed: int) -> Tensor:
    """Items' own embeddings to start from: float32 (items, d).

    The right singular vectors of the damped matrix of users and items, each times its singular
    value; what dimensions the matrix is too small for, and items without interactions, keep their
    `noise` (items, d). The same for the same seed.
    """
    items, dim = noise.shape
    counts = np.bincount(histories.items, minlength=items)
    damped = np.maximum(counts, 1.0)[histories.items] ** -DAMPING
    matrix = sparse.csr_array(
        (damped, histories.items, histories.offsets), shape=(histories.users, items)
    )
    rank = min(dim, min(matrix.shape) - 1)
    if rank < 1:
        return noise
    start = np.random.default_rng([seed, 2]).random(min(matrix.shape))
    _, values, vectors = svds(matrix, k=rank, v0=start, return_singular_vectors="vh")
    embeddings = np.zeros((items, rank))
    met = counts > 0
    embeddings[met] = (values[::-1, None] * vectors[::-1]).T[met]
    norm = math.sqrt(float(np.square(embeddings).sum()) / max(int(met.sum()), 1))
    warm = noise.clone()
    rows = torch.from_numpy(np.flatnonzero(met))
    scaled = embeddings[met] * (NORM / max(norm, 1e-12))
    warm[rows, :rank] = torch.from_numpy(scaled.astype(np.float32))
    return warm
