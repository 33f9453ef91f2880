"""What does each rule of a shop cost, and what does it buy?

    python -m tests.benchmarks.rules [--data DIR] [--seed 0] [--threads 1]

Fits tterec on the core of Book-Crossing (see quality.py for the set and its split), ranks the
whole catalogue for every judged user, and puts each list under each rule by itself, from the best
300 as serving does. The cost is the ratio of the NDCG@20 to that without rules. Beside it stands
what is bought: likeness, the mean cosine of the list's books with each other; authors a list, an
unknown author counted as one of its own; the mean year; and how much of the list is not in the
list without rules.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import fields
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.quality_sets import QualitySet, load_set
from tterec.config import TrainingConfig
from tterec.evaluation import ndcg_at_k
from tterec.fitting import fit
from tterec.ranking import rules
from tterec.ranking.lists import PADDING, Lists, ranked_lists
from tterec.ranking.rules import CANDIDATES, Pool, Rules

K = 20
# The ratings were collected in August and September 2004.
AS_OF = date(2004, 9, 1)
SHARE_AVAILABLE = 0.9

MEASURED: tuple[dict[str, Any], ...] = (
    {},
    {"diversity": 0.1},
    {"diversity": 0.3},
    {"diversity": 0.5},
    {"diversity": 0.7},
    {"max_per_author": 3},
    {"max_per_author": 2},
    {"max_per_author": 1},
    {"freshness": 0.1},
    {"freshness": 0.2},
    {"freshness": 0.5},
    {"freshness": 1.0},
    {"dither": 0.2},
    {"dither": 0.4},
    {"dither": 0.7},
    {"dither": 1.1},
    {"available_column": "nine in ten, at random"},
    {"diversity": 0.3, "max_per_author": 2, "freshness": 0.1, "dither": 0.2},
)


class Catalogue:
    """What the rules look at, by the row of an item."""

    def __init__(self, data: QualitySet, vectors: NDArray[np.float32], seed: int) -> None:
        columns = {column.name: column.values for column in data.items.columns}
        self.ids = data.items.ids
        self.vectors = vectors.astype(np.float64)
        self.units = self.vectors / np.linalg.norm(self.vectors, axis=1, keepdims=True)
        self.authors = rules.author_groups(columns["author"].tolist())
        self.years = columns["year"]
        self.ages = rules.ages_of_years(self.years, AS_OF)
        self.available = np.random.default_rng(seed).random(len(self.ids)) < SHARE_AVAILABLE

    def rows(self, item_ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows of item ids that are in the catalogue."""
        return np.searchsorted(self.ids, item_ids)

    def listed(self, found: Lists, wanted: Rules, users: NDArray[np.int64]) -> NDArray[np.int64]:
        """Each user's list under the rules: (users, K), padded."""
        lists = np.full((len(users), K), PADDING, dtype=np.int64)
        for place, user in enumerate(users.tolist()):
            items = found.item_ids[place][found.item_ids[place] != PADDING]
            rows = self.rows(items)
            pool = Pool(
                items,
                found.scores[place, : len(items)],
                self.vectors[rows],
                self.authors[rows],
                self.ages[rows],
                self.available[rows] if wanted.available_column else None,
            )
            chosen, _ = rules.apply(wanted, pool, K, user)
            lists[place, : len(chosen)] = items[chosen]
        return lists

    def bought(self, lists: NDArray[np.int64]) -> tuple[float, float, float]:
        """Mean likeness, authors and year of the lists."""
        likeness, authors, years = [], [], []
        for items in lists:
            rows = self.rows(items[items != PADDING])
            units, n = self.units[rows], len(rows)
            if n > 1:
                likeness.append((np.square(units.sum(axis=0)).sum() - n) / (n * (n - 1)))
            groups = self.authors[rows]
            authors.append(len(set(groups[groups >= 0].tolist())) + (groups < 0).sum())
            years.append(self.years[rows])
        return (
            float(np.mean(likeness)),
            float(np.mean(authors)),
            float(np.nanmean(np.concatenate(years))),
        )


def churn(lists: NDArray[np.int64], before: NDArray[np.int64]) -> float:
    """The mean share of a list that was not in the list before."""
    shares = [
        1 - len(set(now.tolist()) & set(then.tolist())) / K
        for now, then in zip(lists, before, strict=True)
    ]
    return float(np.mean(shares))


def named(given: dict[str, Any]) -> str:
    """The rules as a person would write them."""
    known = [field.name for field in fields(Rules) if field.name in given]
    return ", ".join(f"{name} {given[name]}" for name in known) or "no rules"


def main() -> None:
    """Fit once, then one line for each rule."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data/book-crossing"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    data = load_set("core", options.data, options.seed)
    model = fit(data.train, data.users, data.items, TrainingConfig(threads=options.threads))
    found = ranked_lists(model, data.train, data.judged, CANDIDATES)
    catalogue = Catalogue(data, model.vectors.item_embeddings, options.seed)
    assert np.array_equal(catalogue.ids, model.vectors.item_ids)
    best = found.item_ids[:, :K]
    without = float(np.nanmean(ndcg_at_k(best, data.relevant, K)))
    print(
        f"{len(data.train):,} interactions, {len(data.items):,} books, {len(data.judged):,} users "
        f"judged; NDCG@{K} {without:.4f}\n\n"
        f"{'rules':66} ratio  likeness  authors    year  churn  ms a list"
    )
    for given in MEASURED:
        start = time.perf_counter()
        lists = catalogue.listed(found, Rules(as_of=AS_OF, **given), data.judged)
        milliseconds = (time.perf_counter() - start) * 1000 / len(lists)
        if not given and not np.array_equal(lists, best):
            raise SystemExit("lists without rules are not the ranker's")
        ratio = float(np.nanmean(ndcg_at_k(lists, data.relevant, K))) / without
        likeness, authors, year = catalogue.bought(lists)
        print(
            f"{named(given):66} {ratio:5.3f}  {likeness:8.3f}  {authors:7.1f}  {year:6.1f}  "
            f"{churn(lists, best):5.2f}  {milliseconds:9.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
