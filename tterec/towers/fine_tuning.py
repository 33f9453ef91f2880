"""Fine-tuning: trained towers go on learning, from what is new and a sample of what is not."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tterec import arrays, grouping
from tterec.config import TrainingConfig
from tterec.evaluation import validation_split
from tterec.records import (
    FeatureTable,
    Interactions,
    Progress,
    ProgressCallback,
    TrainedModel,
    ignore,
)
from tterec.towers.batches import id_gates
from tterec.towers.distributed import ALONE
from tterec.towers.embedding import Towers
from tterec.towers.histories import Histories, gather_histories
from tterec.towers.learning import Lesson, learn, learnable
from tterec.towers.pairs import pair_digests
from tterec.towers.ragged import Index
from tterec.towers.room import check_room
from tterec.towers.threads import bounded_threads
from tterec.towers.training import encode, shape_of, trained_model
from tterec.towers.warm_start import carry_over

REPLAY = 1.0
"""So many old interactions are learned again for each new one. On the sets of
tests/benchmarks/fine_tune.py 1, 2 and 4 gave NDCG@20 .2104, .2133 and .2171 on dense, 1 and 2 .0700
and .0686 on Book-Crossing's core and .1878 and .1877 on bare; training anew .2138, .0668 and .1926.
1 takes a quarter of the time of 4."""
PACE = 0.2
"""The share of the learning rate. The optimiser starts afresh, and its first steps are the longest:
.5 loses at once what it knew. .1, .2 and .5 gave .2132, .2104 and .2034 on dense, .1863, .1878 and
.1840 on bare, and .1 takes twice as long."""


def fine_tune(
    live: Towers,
    interactions: Interactions,
    new: NDArray[np.bool_],
    users: FeatureTable,
    items: FeatureTable,
    *,
    config: TrainingConfig,
    held_out: NDArray[np.bool_] | None = None,
    replay: float | None = None,
    progress: ProgressCallback = ignore,
) -> TrainedModel:
    """Let trained towers learn the `new` (n,) among the interactions; embed all items and users.

    Histories are of all interactions. Beside the new ones, a random sample of the others,
    `replay` (default: REPLAY) times as many, is learned again, lest they be forgotten; math.inf:
    all of them. Held out for validation are interactions that the live towers have not learned
    either, so that both can be compared: new ones, and of those by which the live towers were
    validated, which are `held_out` (n,). `best_epoch` of the metrics is 0 where no epoch was better
    than the live towers, whose vectors are returned then. `config` is theirs, but for seed and
    epochs. Same input, same bytes. Raises as `train` does.
    """
    ALONE.device(config.device)  # before what takes long
    histories = gather_histories(interactions, users, items, config.max_history)
    is_new = _among(histories, items.ids, interactions, new)
    formerly = np.zeros(len(histories), dtype=bool)
    if held_out is not None:
        formerly = _among(histories, items.ids, interactions, held_out)
    judged = _held_out(histories, is_new, formerly, config)
    rest = histories.select(~judged)
    unlearned = (is_new | formerly)[~judged]
    targets = _targets(unlearned, learnable(rest, config), replay, config.seed)
    progress(Progress("train", message=_plan(unlearned, targets)))
    item_features = live.item_features.extended(items)
    user_features = live.user_features.extended(users)
    encoded_items, encoded_users = encode(item_features, items, user_features, users, progress)
    lesson = Lesson(rest, histories.select(judged), targets, encoded_items, encoded_users)
    shape = shape_of(item_features, user_features, len(items), config)
    check_room(shape, lesson, config, carried=True)
    gates = id_gates(rest, len(items), config.id_shrinkage)
    parameters = carry_over(live, items, gates, item_features, user_features)
    with bounded_threads(config.threads) as threads:
        learned = learn(lesson, parameters, config, progress, carried=PACE)
        del parameters  # the best epoch's are others
        made = trained_model(
            learned, lesson, items, users, (item_features, user_features), config=config
        )
    made.metrics["threads"] = threads
    return made


def _among(
    histories: Histories, item_ids: Index, interactions: Interactions, which: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Which of the histories' interactions are some of the given ones: bool (n,)."""
    wanted = np.concatenate(
        [
            pair_digests(
                interactions.user_ids[piece][which[piece]],
                interactions.item_ids[piece][which[piece]],
            )
            for piece in arrays.pieces(len(interactions))
        ]
    )
    wanted.sort()
    found = np.zeros(len(histories), dtype=bool)
    for piece in arrays.pieces(len(histories)):
        users = histories.owners_of(np.arange(piece.start, piece.stop))
        own = pair_digests(histories.user_ids[users], item_ids[histories.items[piece]])
        found[piece] = grouping.among(own, wanted)
    return found


def _held_out(
    histories: Histories,
    new: NDArray[np.bool_],
    formerly: NDArray[np.bool_],
    config: TrainingConfig,
) -> NDArray[np.bool_]:
    """What to validate by, bool (n,): one interaction each of some users.

    They are those by which the live towers were validated, which tell whether old tastes are
    forgotten, and some of what is new, which tell whether new tastes are learned: up to half.
    """
    rated_only = config.objective == "mse"
    drawn = validation_split(
        histories.offsets,
        histories.ratings,
        users=config.validation_users // 2,
        seed=config.seed,
        rated_only=rated_only,
        among=new,
    )
    lending = np.zeros(histories.users, dtype=bool)
    lending[histories.owners_of(np.flatnonzero(drawn))] = True
    old = formerly & ~np.repeat(lending, np.diff(histories.offsets))
    if rated_only:
        old &= ~np.isnan(histories.ratings)
    places = np.random.default_rng([config.seed, 4]).permutation(np.flatnonzero(old))
    drawn[places[: config.validation_users - np.count_nonzero(drawn)]] = True
    return drawn


def _targets(
    new: NDArray[np.bool_], learnable: NDArray[np.bool_], replay: float | None, seed: int
) -> NDArray[np.bool_]:
    """What is learned: all that is new, and a sample of the others, by lot."""
    if replay == math.inf:
        return learnable
    targets = new & learnable
    wanted = round((REPLAY if replay is None else replay) * np.count_nonzero(targets))
    others = arrays.Column(arrays.integers_below(len(new)))
    for piece in arrays.pieces(len(new)):
        others.append(np.flatnonzero(learnable[piece] & ~new[piece]) + piece.start)
    drawn = others.array()
    np.random.default_rng([seed, 3]).shuffle(drawn)
    targets[drawn[:wanted]] = True
    return targets


def _plan(new: NDArray[np.bool_], targets: NDArray[np.bool_]) -> str:
    fresh = np.count_nonzero(new & targets)
    again = np.count_nonzero(targets) - fresh
    return f"learning {fresh:,} new interactions, and {again:,} others again"
