"""From interactions and features to a model that ranks: towers, then the second stage.

Nothing here knows a database. `tterec train` publishes what `fit` returns; `tterec evaluate` and
`tterec tune` fit on a part of the data and rank with it in memory.
"""

from __future__ import annotations

from tterec.config import TrainingConfig
from tterec.records import FeatureTable, Interactions, ProgressCallback, TrainedModel, ignore


def fit(
    interactions: Interactions,
    users: FeatureTable,
    items: FeatureTable,
    config: TrainingConfig | None = None,
    progress: ProgressCallback = ignore,
) -> TrainedModel:
    """Train the towers and fit the second stage on validation interactions of its own choosing.

    `interactions` are all that may be learned from: what a caller wants to judge by must not be
    among them. Raises TrainingError where there is nothing to learn from.
    """
    from tterec import towers  # two seconds

    return towers.train(interactions, users, items, config or TrainingConfig(), progress)
