"""How good are tterec's lists, beside those of the tools that people would take instead?

    python -m tests.benchmarks.quality [--data DIR] [--sets core,dense,bare,sparse] [--seeds 3]

A fifth of each user's interactions is held out; the whole catalogue is ranked, less what the user
met in the rest; relevant are those rated at least 7, or met without rating.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.quality_sets import QualitySet, load_set
from tterec.config import TrainingConfig
from tterec.evaluation import ndcg_at_k, recall_at_k

__all__ = ["QualitySet", "load_set"]

K = 20


def tterec_lists(
    data: QualitySet, config: TrainingConfig
) -> tuple[float, dict[str, NDArray[np.int64]]]:
    """Seconds of fitting, and the lists with and without the ranker."""
    from tterec.fitting import fit
    from tterec.ranking.lists import ranked_lists

    started = time.perf_counter()
    model = fit(data.train, data.users, data.items, config)
    seconds = time.perf_counter() - started
    return seconds, {
        "tterec": ranked_lists(model, data.train, data.judged, K).item_ids,
        "tterec, towers only": ranked_lists(
            model, data.train, data.judged, K, ranker=False
        ).item_ids,
    }


def main() -> None:
    """Fit, rank, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data/book-crossing"))
    parser.add_argument("--sets", default="core,dense,bare,sparse")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--peers", default="none")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    for name in options.sets.split(","):
        for seed in range(options.seeds):
            data = load_set(name, options.data, seed)
            print(
                f"{name}, seed {seed}: {len(data.train):,} interactions to learn from, "
                f"{len(data.items):,} items, {len(data.users):,} users, {len(data.judged):,} judged"
            )
            seconds, lists = tterec_lists(data, TrainingConfig(threads=options.threads))
            for method, ranked in lists.items():
                ndcg = np.nanmean(ndcg_at_k(ranked, data.relevant, K))
                recall = np.nanmean(recall_at_k(ranked, data.relevant, K))
                coverage = len(np.unique(ranked[ranked >= 0])) / len(data.items)
                print(
                    f"  {method:20} NDCG@20 {ndcg:.4f}  recall@20 {recall:.4f}  "
                    f"coverage {coverage:.3f}  fit {seconds:.1f} s",
                    flush=True,
                )


if __name__ == "__main__":
    main()
