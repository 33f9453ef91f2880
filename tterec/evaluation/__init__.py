"""Splits and metrics: pure functions on NumPy arrays."""

from tterec.evaluation.metrics import (
    average_precision_at_k,
    coverage,
    hit_rate_at_k,
    mae,
    ndcg_at_k,
    ndcg_of_ranks,
    novelty,
    precision_at_k,
    recall_at_k,
    reciprocal_rank,
    rmse,
    share_of,
)
from tterec.evaluation.splits import validation_split

__all__ = [
    "average_precision_at_k",
    "coverage",
    "hit_rate_at_k",
    "mae",
    "ndcg_at_k",
    "ndcg_of_ranks",
    "novelty",
    "precision_at_k",
    "recall_at_k",
    "reciprocal_rank",
    "rmse",
    "share_of",
    "validation_split",
]
