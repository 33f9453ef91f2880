"""What does fine-tuning give, and what does it cost, beside training again from scratch?

    python -m tests.benchmarks.fine_tune [--sets dense,bare,core] [--data DIR] [--seeds 1]
        [--replay 1,2,4] [--pace .25,.5,1]

Of each set of `quality.py` a tenth of the interactions is kept back to judge by. Of the rest, a
tenth is new, and so is all that 3% of the items and 3% of the users have to do with; towers learn
the old part. Then these are judged by NDCG@20 on what was kept back, of the whole catalogue, with
histories of all the rest: the old towers as they are (new items by content), the same fine-tuned,
and towers trained from scratch on everything; with the second stage also, which is fitted anew for
each. Seconds are those of the towers, and with the second stage.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.quality_sets import REAL, SETS, Parts
from tests.benchmarks.targets import Targets
from tterec import fitting, towers
from tterec.config import TrainingConfig
from tterec.evaluation import ndcg_at_k
from tterec.ranking.lists import ranked_lists
from tterec.records import FeatureTable, Interactions, TrainedModel
from tterec.towers import fine_tuning
from tterec.towers.pairs import pair_digests

K = 20
TARGET = 0.5
SHARE, COMERS = 0.1, 0.03


@dataclass(frozen=True)
class Change:
    """A set before and after: `old` and `now` of each table, what is `new` (n,) in
    `interactions`, and what lists are judged by."""

    old: Parts
    now: Parts
    new: NDArray[np.bool_]
    judged: Interactions


def change_of(parts: Parts, seed: int) -> Change:
    """Divide a set by lot."""
    random = np.random.default_rng([seed, 9])
    interactions, users, items = parts
    kept_back = random.random(len(interactions)) < SHARE
    rest = interactions.select(~kept_back)
    new_users = random.random(len(users)) < COMERS
    new_items = random.random(len(items)) < COMERS
    new = random.random(len(rest)) < SHARE
    new |= np.isin(rest.user_ids, users.ids[new_users])
    new |= np.isin(rest.item_ids, items.ids[new_items])
    old = rest.select(~new), _rows(users, ~new_users), _rows(items, ~new_items)
    return Change(old, (rest, users, items), new, interactions.select(kept_back))


def _rows(table: FeatureTable, kept: NDArray[np.bool_]) -> FeatureTable:
    columns = (replace(column, values=column.values[kept]) for column in table.columns)
    return FeatureTable(table.ids[kept], tuple(columns))


def ndcg(model: TrainedModel, change: Change, which: NDArray[np.bool_] | None = None) -> float:
    """Mean NDCG@20 over the users with something to be judged by."""
    judged = change.judged if which is None else change.judged.select(which)
    users = np.unique(judged.user_ids)
    order = np.argsort(judged.user_ids, kind="stable")
    starts = np.searchsorted(judged.user_ids[order], users)
    relevant = np.split(judged.item_ids[order], starts[1:])
    found = ranked_lists(model, change.now[0], users, K)
    return float(np.nanmean(ndcg_at_k(found.item_ids, relevant, K)))


def measured(
    name: str, model: TrainedModel, change: Change, seconds: float
) -> tuple[float, float, float]:
    """Say how good towers are, alone and with a second stage: NDCG, NDCG, seconds of both."""
    started = time.process_time()
    both = fitting.with_ranker(model, change.now[0], change.now[2])
    second = seconds + time.process_time() - started
    of_new = ~np.isin(change.judged.item_ids, change.old[2].ids)
    alone, ranked = ndcg(model, change), ndcg(both, change)
    print(
        f"  {name:28} {alone:.4f} (new items {ndcg(model, change, of_new):.4f})  with the second "
        f"stage {ranked:.4f}  {seconds:6.1f} s, {second:6.1f} s",
        flush=True,
    )
    return alone, ranked, second


def compare(
    change: Change, config: TrainingConfig, settings: list[tuple[float, float]]
) -> list[float]:
    """Print the figures of all ways. Returns their CPU times over training's."""
    interactions, users, items = change.now
    started = time.process_time()
    old = towers.train(*change.old, config)
    seconds = time.process_time() - started
    live = towers.Towers.load(old.weights, old.features, config)
    encoded = live.item_features.encode(items), live.user_features.encode(users)
    as_is = replace(old, vectors=live.publish(items, encoded[0], users, encoded[1]))
    measured("the old towers", as_is, change, seconds)
    assert old.validation is not None
    held_out = np.isin(
        pair_digests(interactions.user_ids, interactions.item_ids),
        pair_digests(old.validation.user_ids, old.validation.item_ids),
    )
    ways = []
    for replay, pace in settings:
        fine_tuning.REPLAY, fine_tuning.PACE = replay, pace
        started = time.process_time()
        tuned = towers.fine_tune(
            live, interactions, change.new, users, items, config=config, held_out=held_out
        )
        seconds = time.process_time() - started
        name = f"fine-tuned, {replay:g} times, {pace:g}"
        ways.append((name, *measured(name, tuned, change, seconds), seconds))
    started = time.process_time()
    scratch = towers.train(interactions, users, items, config)
    seconds = time.process_time() - started
    alone, both, total = measured("trained from scratch", scratch, change, seconds)
    for name, *found, fitted in ways:
        print(
            f"  {name} over training from scratch: NDCG@20 {found[0] / alone:.3f}, with the second "
            f"stage {found[1] / both:.3f}; time {fitted / seconds:.2f}, {found[2] / total:.2f}"
        )
    return [fitted / seconds for *_, fitted in ways]


def main() -> None:
    """Compare on each set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", default="dense,bare")
    parser.add_argument("--data", type=Path, help="folder with the Book-Crossing files")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--replay", default=f"{fine_tuning.REPLAY:g}")
    parser.add_argument("--pace", default=f"{fine_tuning.PACE:g}")
    options = parser.parse_args()
    settings = list(
        product(map(float, options.replay.split(",")), map(float, options.pace.split(",")))
    )
    targets = Targets()
    for name, seed in product(options.sets.split(","), range(options.seeds)):
        if name in REAL and options.data is None:
            parser.error(
                f"the set {name} is Book-Crossing's: name the folder of its files by --data"
            )
        change = change_of(SETS[name](options.data or Path()), seed)
        print(
            f"{name}, seed {seed}: {len(change.old[0]):,} old interactions, "
            f"{np.count_nonzero(change.new):,} new, {len(change.judged):,} to judge by",
            flush=True,
        )
        for share in compare(change, TrainingConfig(threads=1, seed=seed), settings):
            targets.at_most(f"CPU time over training's, {name}", share, TARGET)
    targets.end()


if __name__ == "__main__":
    main()
