"""What was measured of each method on a set, compared and printed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.quality_sets import QualitySet
from tests.benchmarks.quality_tuning import Seconds
from tterec.evaluation import ndcg_at_k, recall_at_k

K = 20
RESAMPLES = 2_000
OURS = "tterec"
TARGET = 1.05
_FIGURES = ("NDCG@20", "recall@20")

Values = NDArray[np.float64]


class Ratio(NamedTuple):
    """A ratio of two sums over the same users, and its 95% interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def paired_ratio(users: NDArray[np.int64], ours: Values, theirs: Values) -> Ratio:
    """The sum of `ours` over that of `theirs`, one value a row, with rows of `users` (n,).

    The interval is that of 2,000 bootstrap samples of users: with a user come all of theirs, of
    every seed, and both methods' values of them.
    """
    _, owner = np.unique(users, return_inverse=True)
    sums = np.column_stack([np.bincount(owner, weights=part) for part in (ours, theirs)])
    random = np.random.default_rng(0)
    drawn = np.array(
        [sums[random.integers(0, len(sums), len(sums))].sum(axis=0) for _ in range(RESAMPLES)]
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = np.nanquantile(drawn[:, 0] / drawn[:, 1], [0.025, 0.975])
        value = ours.sum() / theirs.sum()
    return Ratio(float(value), float(low), float(high))


@dataclass
class Method:
    """What was measured of a method: values a judged user, of all seeds one after the other."""

    name: str
    users: list[NDArray[np.int64]] = field(default_factory=list)
    figures: dict[str, list[Values]] = field(
        default_factory=lambda: {name: [] for name in _FIGURES}
    )
    coverage: list[float] = field(default_factory=list)
    seconds: list[Seconds] = field(default_factory=list)
    tuned: str = ""
    """How its settings were found, in words."""

    def add(self, data: QualitySet, lists: NDArray[np.int64], seconds: Seconds) -> None:
        """Judge one seed's lists (judged, k)."""
        self.users.append(data.judged)
        for name, metric in zip(_FIGURES, (ndcg_at_k, recall_at_k), strict=True):
            self.figures[name].append(metric(lists, data.relevant, K))
        self.coverage.append(len(np.unique(lists[lists >= 0])) / len(data.items))
        self.seconds.append(seconds)

    def mean(self, name: str) -> float:
        """The mean of a figure over all judged users of all seeds."""
        return float(np.concatenate(self.figures[name]).mean())

    @property
    def took(self) -> Seconds:
        """Of the fit, the mean of the seeds."""
        return Seconds(*np.mean(self.seconds, axis=0))

    def against(self, other: Method, name: str) -> Ratio:
        """This method's figure over another's."""
        parts = (np.concatenate(method.figures[name]) for method in (self, other))
        return paired_ratio(np.concatenate(self.users), *parts)


@dataclass
class Ratings:
    """Squared errors of predicted ratings, one value a rated test interaction, of all seeds."""

    users: list[NDArray[np.int64]] = field(default_factory=list)
    ours: list[Values] = field(default_factory=list)
    theirs: list[Values] = field(default_factory=list)
    seconds: list[tuple[Seconds, Seconds]] = field(default_factory=list)
    tuned: str = ""


def table(methods: list[Method]) -> str:
    """A table in Markdown, a line a method."""
    ours = methods[0]
    lines = [
        "| method | NDCG@20 | recall@20 | coverage | fit, s | CPU, s | tterec's NDCG@20 over its |",
        "|---|---|---|---|---|---|---|",
    ]
    for method in methods:
        ratio = "" if method is ours else str(ours.against(method, "NDCG@20"))
        lines.append(
            f"| {method.name} | {method.mean('NDCG@20'):.4f} | {method.mean('recall@20'):.4f} "
            f"| {np.mean(method.coverage):.3f} | {method.took.wall:.1f} | {method.took.cpu:.1f} "
            f"| {ratio} |"
        )
    return "\n".join(lines)


def verdicts(methods: list[Method], peers: list[Method]) -> list[str]:
    """A sentence each: figures against the best peer, coverage and time, and where a peer wins."""
    ours, said = methods[0], []
    if not peers:
        return said
    for name in _FIGURES:
        best = max(peers, key=lambda method: method.mean(name))
        ratio = ours.against(best, name)
        word = "met" if ratio.value >= TARGET else "MISSED"
        said.append(f"{name}: {ratio} times the best peer's ({best.name}); {TARGET} is {word}")
    winner = max(peers, key=lambda method: method.mean("NDCG@20"))
    by_name = {method.name: method for method in peers}
    own = ours.took
    times = [f"{own.cpu / winner.took.cpu:.2f} times {winner.name}'s (the winning peer)"]
    if "ials" in by_name:
        theirs = by_name["ials"]
        times.append(f"{own.cpu / theirs.took.cpu:.2f} times ials's")
        word = "no lower" if np.mean(ours.coverage) >= np.mean(theirs.coverage) else "LOWER"
        said.append(
            f"coverage: {np.mean(ours.coverage):.3f}, {word} than ials's "
            f"{np.mean(theirs.coverage):.3f}"
        )
    said.append(f"fit: {own.wall:.1f} s, {own.cpu:.1f} of processors: {' and '.join(times)}")
    for peer in peers:
        won = [name for name in _FIGURES if peer.mean(name) > ours.mean(name)]
        if won:
            ratios = " and ".join(f"{name} {peer.against(ours, name)}" for name in won)
            said.append(f"{peer.name} WINS: {ratios} times tterec's")
    return said


def rating_verdict(ratings: Ratings) -> str:
    """Root mean squared errors, and their ratio."""
    parts = [np.concatenate(part) for part in (ratings.ours, ratings.theirs)]
    ratio = Ratio(*np.sqrt(paired_ratio(np.concatenate(ratings.users), *parts)))
    ours, theirs = (np.sqrt(part.mean()) for part in parts)
    own, their = np.mean(ratings.seconds, axis=0)[:, 1]
    word = "met" if ours <= theirs else "MISSED: svd WINS"
    return (
        f"RMSE of {len(parts[0]):,} ratings: tterec (mse) {ours:.4f} in {own:.1f} CPU s, "
        f"svd {theirs:.4f} in {their:.1f}, {ratio} times; at most svd's is {word}"
    )


def as_json(methods: list[Method], ratings: Ratings | None, said: list[str]) -> dict[str, Any]:
    """The figures of a set as JSON holds them."""
    ours = methods[0]
    found: dict[str, Any] = {
        "methods": [
            {
                "method": method.name,
                **{name: method.mean(name) for name in _FIGURES},
                **{
                    f"{name} by seed": [float(values.mean()) for values in method.figures[name]]
                    for name in _FIGURES
                },
                **{f"tterec's {name} over its": ours.against(method, name) for name in _FIGURES},
                "coverage": method.coverage,
                "fit seconds": [seconds._asdict() for seconds in method.seconds],
                "tuned": method.tuned,
            }
            for method in methods
        ],
        "verdicts": said,
    }
    if ratings is not None:
        found["RMSE by seed"] = [
            {"tterec": float(np.sqrt(ours.mean())), "svd": float(np.sqrt(theirs.mean()))}
            for ours, theirs in zip(ratings.ours, ratings.theirs, strict=True)
        ]
        found["svd tuned"] = ratings.tuned
    return found
