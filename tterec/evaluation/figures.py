"""From ranked lists and predicted ratings to figures with intervals, overall and by group."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tterec.evaluation import bootstrap, metrics
from tterec.evaluation.groups import ITEM_CLASSES, USER_GROUPS, item_classes
from tterec.records import Figure, ModelFigures

DIGITS = 6

Values = NDArray[np.float64]
Index = NDArray[np.int64]


@dataclass(frozen=True)
class PerUser:
    """A metric before its mean: Σ totals / Σ counts, float64 (users,) each; its root if
    `rooted`."""

    totals: Values
    counts: Values
    rooted: bool = False

    @classmethod
    def mean(cls, values: Values) -> PerUser:
        """The mean of one value a user, NaN where a user has none."""
        return cls(np.nan_to_num(values), np.isfinite(values).astype(np.float64))

    def of(self, users: NDArray[np.bool_]) -> PerUser:
        """Of some users only."""
        return PerUser(self.totals * users, self.counts * users, self.rooted)


@dataclass(frozen=True)
class Catalogue:
    """All items, ids ascending int64 (items,), how many of `users` users have met each."""

    item_ids: Index
    popularity: Index
    users: int

    @property
    def classes(self) -> Index:
        """Each item's place in ITEM_CLASSES."""
        return item_classes(self.popularity)


@dataclass(frozen=True)
class Judged:
    """What a model did for each user: `metrics` of its lists or predictions; recall by class of
    item; and what is no mean over users."""

    metrics: dict[str, PerUser]
    recall_by_class: dict[str, PerUser]
    whole: dict[str, float]


def judge_lists(ranked: Index, relevant: Sequence[Index], k: int, catalogue: Catalogue) -> Judged:
    """Judge one ranked list a user, item ids (users, k), by the items relevant to each."""
    classes = catalogue.classes
    by_user = {
        "precision": metrics.precision_at_k(ranked, relevant, k),
        "recall": metrics.recall_at_k(ranked, relevant, k),
        "ndcg": metrics.ndcg_at_k(ranked, relevant, k),
        "map": metrics.average_precision_at_k(ranked, relevant, k),
        "mrr": metrics.reciprocal_rank(ranked, relevant, k),
        "hit_rate": metrics.hit_rate_at_k(ranked, relevant, k),
        "novelty": metrics.novelty(
            ranked, catalogue.item_ids, catalogue.popularity, catalogue.users
        ),
        "popularity_bias": metrics.share_of(ranked, catalogue.item_ids, classes == 0),
    }
    of_class = [classes[np.searchsorted(catalogue.item_ids, items)] for items in relevant]
    by_class = {}
    for place, name in enumerate(ITEM_CLASSES):
        wanted = [items[of == place] for items, of in zip(relevant, of_class, strict=True)]
        by_class[name] = PerUser.mean(metrics.recall_at_k(ranked, wanted, k))
    return Judged(
        {name: PerUser.mean(values) for name, values in by_user.items()},
        by_class,
        {"coverage": metrics.coverage(ranked, len(catalogue.item_ids))},
    )


def judge_ratings(
    predicted: NDArray[np.floating], actual: NDArray[np.floating], user: Index, users: int
) -> Judged:
    """Judge predicted ratings (n,) by the actual ones; `user` (n,) are rows of users."""
    errors = predicted.astype(np.float64) - actual
    counts = np.bincount(user, minlength=users).astype(np.float64)
    squares = np.bincount(user, weights=errors**2, minlength=users).astype(np.float64)
    sizes = np.bincount(user, weights=np.abs(errors), minlength=users).astype(np.float64)
    return Judged({"rmse": PerUser(squares, counts, True), "mae": PerUser(sizes, counts)}, {}, {})


class Comparison:
    """The figures of several models on the same users, whose bootstrap draws they share."""

    def __init__(self, judged: Mapping[str, Judged], groups: Index, seed: int) -> None:
        """judged: by model. groups: each user's place in USER_GROUPS, (users,)."""
        self._judged = judged
        self._columns: dict[tuple[str, str, str, str], PerUser] = {}
        everyone = np.ones(len(groups), dtype=bool)
        for model, one in judged.items():
            for metric, per_user in one.metrics.items():
                self._columns[model, "overall", "", metric] = per_user.of(everyone)
                for place, group in enumerate(USER_GROUPS):
                    self._columns[model, "user", group, metric] = per_user.of(groups == place)
            for name, per_user in one.recall_by_class.items():
                self._columns[model, "item", name, "recall"] = per_user
        self._places = {key: place for place, key in enumerate(self._columns)}
        columns = list(self._columns.values())
        totals = np.stack([column.totals for column in columns], axis=1)
        counts = np.stack([column.counts for column in columns], axis=1)
        rooted = np.array([column.rooted for column in columns])
        ratios = bootstrap.resampled_ratios(totals, counts, seed=seed)
        whole = counts.sum(axis=0)
        values = np.full(len(columns), np.nan)
        np.divide(totals.sum(axis=0), whole, out=values, where=whole > 0)
        self._values = np.where(rooted, np.sqrt(np.abs(values)), values)
        self._samples = np.where(rooted, np.sqrt(np.abs(ratios)), ratios)
        self._lows, self._highs = bootstrap.interval(self._samples)

    def figures(self, model: str) -> ModelFigures:
        """All figures of one model."""
        overall = self._section(model, "overall")[""]
        for name, value in self._judged[model].whole.items():
            overall[name] = Figure(_plain(value))
        return ModelFigures(overall, self._section(model, "user"), self._section(model, "item"))

    def difference(self, model: str, minus: str) -> dict[str, Figure]:
        """The metrics of `model` less those of `minus`, each user compared with themselves."""
        mine, theirs = (self._judged[name].metrics for name in (model, minus))
        shared = [metric for metric in mine if metric in theirs]
        left, right = (
            [self._places[name, "overall", "", metric] for metric in shared]
            for name in (model, minus)
        )
        values = self._values[left] - self._values[right]
        lows, highs = bootstrap.interval(self._samples[:, left] - self._samples[:, right])
        return {
            metric: _figure(values[place], lows[place], highs[place])
            for place, metric in enumerate(shared)
        }

    def value(self, model: str, metric: str) -> float:
        """One figure of all users; NaN where it is undefined."""
        return float(self._values[self._places[model, "overall", "", metric]])

    def _section(self, model: str, section: str) -> dict[str, dict[str, Figure]]:
        found: dict[str, dict[str, Figure]] = {}
        for (owner, part, group, metric), place in self._places.items():
            if (owner, part) == (model, section):
                found.setdefault(group, {})[metric] = _figure(
                    self._values[place], self._lows[place], self._highs[place]
                )
        return found


def _figure(value: Any, low: Any, high: Any) -> Figure:
    return Figure(_plain(value), _plain(low), _plain(high))


def _plain(value: Any) -> float | None:
    """A number that JSON can hold: None for NaN."""
    return round(float(value), DIGITS) if np.isfinite(value) else None
