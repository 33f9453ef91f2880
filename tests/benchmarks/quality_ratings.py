"""Predicted ratings: tterec's towers with the mse objective beside scikit-surprise's SVD."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tests.benchmarks.quality_sets import QualitySet
from tests.benchmarks.quality_tuning import Seconds, Settings, timed
from tterec.config import TrainingConfig

Errors = NDArray[np.float64]

SVD_FIRST: tuple[Settings, ...] = tuple(
    {"n_factors": factors, "n_epochs": epochs, "reg_all": ridge, "lr_all": 0.005}
    for factors, epochs, ridge in (
        (100, 20, 0.02),  # its defaults
        (50, 40, 0.1),
        (20, 30, 0.05),
        (100, 40, 0.2),
    )
)


def draw_svd(random: np.random.Generator) -> Settings:
    """Settings of SVD to try."""
    return {
        "n_factors": int(random.choice([5, 10, 20, 50, 100, 200])),
        "n_epochs": int(random.choice([10, 20, 40, 60])),
        "reg_all": float(f"{np.exp(random.uniform(np.log(0.02), np.log(0.4))):.3g}"),
        "lr_all": float(random.choice([0.002, 0.005, 0.01])),
    }


def rated(data: QualitySet) -> NDArray[np.int64]:
    """Rows of the test interactions that have a rating."""
    return np.flatnonzero(~np.isnan(data.test.ratings))


def svd_squares(data: QualitySet, settings: Settings) -> Errors:
    """Squared errors of SVD's predictions of the rated test interactions."""
    from surprise import SVD, Dataset, Reader

    known = ~np.isnan(data.train.ratings)
    frame = pd.DataFrame(
        {
            "user": data.train.user_ids[known],
            "item": data.train.item_ids[known],
            "rating": data.train.ratings[known].astype(float),
        }
    )
    ratings = Dataset.load_from_df(frame, Reader(rating_scale=(0, 10)))
    model = SVD(random_state=0, **settings).fit(ratings.build_full_trainset())
    rows = rated(data)
    pairs = zip(data.test.user_ids[rows].tolist(), data.test.item_ids[rows].tolist(), strict=True)
    predicted = np.array([model.predict(user, item).est for user, item in pairs])
    return (predicted - data.test.ratings[rows]) ** 2


def tterec_squares(data: QualitySet, threads: int) -> tuple[Errors, Seconds]:
    """Squared errors of the mse towers' inner products, clipped to 0-10, of the same; and how
    long the fit took."""
    from tterec.fitting import fit
    from tterec.ranking.histories import met_by, user_vectors

    config = TrainingConfig(objective="mse", threads=threads)
    model, seconds = timed(lambda: fit(data.train, data.users, data.items, config))
    vectors = model.vectors
    rows = rated(data)
    users, of_user = np.unique(data.test.user_ids[rows], return_inverse=True)
    embedded = user_vectors(vectors, met_by(data.train, users, vectors.item_ids), users)
    items = vectors.item_embeddings[np.searchsorted(vectors.item_ids, data.test.item_ids[rows])]
    predicted = np.einsum("nd,nd->n", embedded[of_user], items.astype(np.float64)).clip(0, 10)
    return (predicted - data.test.ratings[rows]) ** 2, seconds
