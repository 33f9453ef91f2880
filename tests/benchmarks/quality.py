"""How good are tterec's lists, beside those of the tools that people would take instead?

    python -m tests.benchmarks.quality [--data DIR] [--sets core,dense,bare,sparse] [--seeds 3]
        [--peers all] [--budget SECONDS] [--threads 1] [--cache DIR] [--json FILE]

Needs the extra `bench`, and for the sets core and sparse a folder with BX-Users.csv.gz,
Books.csv.gz and Ratings.csv.gz.

A fifth of each user's interactions is held out; the whole catalogue is ranked, less what the user
met in the rest; relevant are those rated at least 7, or met without rating. tterec is fitted
without any flag but the number of threads. Each peer is tuned on seed 0, by NDCG@20 (svd: RMSE)
on a fifth of the training share, for as many CPU seconds as tterec's fit took there (or --budget),
with at least four settings whatever they take; then it learns from the whole training share of
each seed. Nobody sees the test share. Figures are means over the judged users of all seeds, and
intervals are paired bootstrap intervals over users.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from tests.benchmarks import quality_ratings
from tests.benchmarks.quality_peers import PEERS, Peer, Problem
from tests.benchmarks.quality_report import (
    OURS,
    K,
    Method,
    Ratings,
    as_json,
    rating_verdict,
    table,
    verdicts,
)
from tests.benchmarks.quality_sets import REAL, SETS, QualitySet, inner, load_set
from tests.benchmarks.quality_tuning import Cache, Seconds, Settings, Tuned, candidates, timed, tune
from tterec.config import TrainingConfig
from tterec.errors import LoadError
from tterec.evaluation import ndcg_at_k

__all__ = ["QualitySet", "load_set"]

SVD = "svd"


def tterec_lists(data: QualitySet, threads: int) -> tuple[dict[str, NDArray[np.int64]], Seconds]:
    """tterec's lists with and without the ranker, and how long its fit took."""
    from tterec.fitting import fit
    from tterec.ranking.lists import ranked_lists

    config = TrainingConfig(threads=threads)
    model, seconds = timed(lambda: fit(data.train, data.users, data.items, config))
    return {
        OURS: ranked_lists(model, data.train, data.judged, K).item_ids,
        f"{OURS}, towers only": ranked_lists(
            model, data.train, data.judged, K, ranker=False
        ).item_ids,
    }, seconds


class Bench:
    """The peers' side of a set: tuned once, on its seed 0, then fitted on every seed."""

    def __init__(self, cache: Cache, threads: int) -> None:
        self._cache, self._threads = cache, threads

    def lists(
        self, data: QualitySet, peer: Peer, settings: Settings
    ) -> tuple[NDArray[np.int64], Seconds]:
        """A peer's lists, and how long it learned."""

        def make() -> dict[str, NDArray[Any]]:
            problem = Problem(data, self._threads)
            scorer, seconds = timed(lambda: peer.fit(problem, settings))
            return {"lists": problem.lists(scorer, K), "seconds": np.array(seconds)}

        key = {"method": peer.name, "settings": settings, "k": K, "threads": self._threads}
        found = self._cache.get(data, key, make)
        return found["lists"], Seconds(*found["seconds"].tolist())

    def tuned(self, data: QualitySet, peer: Peer, budget: float) -> Tuned:
        """A peer's best settings on a part of the training share."""
        validation = inner(data)

        def judge(settings: Settings) -> tuple[float, Seconds]:
            lists, seconds = self.lists(validation, peer, settings)
            return float(ndcg_at_k(lists, validation.relevant, K).mean()), seconds

        return tune(candidates(peer.first, peer.draw), judge, budget)

    def svd_squares(self, data: QualitySet, settings: Settings) -> tuple[NDArray[Any], Seconds]:
        """SVD's squared errors, and how long it learned and predicted."""

        def make() -> dict[str, NDArray[Any]]:
            squares, seconds = timed(lambda: quality_ratings.svd_squares(data, settings))
            return {"squares": squares, "seconds": np.array(seconds)}

        found = self._cache.get(data, {"method": SVD, "settings": settings}, make)
        return found["squares"], Seconds(*found["seconds"].tolist())

    def tuned_svd(self, data: QualitySet, budget: float) -> Tuned:
        """SVD's best settings on a part of the training share."""
        validation = inner(data)

        def judge(settings: Settings) -> tuple[float, Seconds]:
            squares, seconds = self.svd_squares(validation, settings)
            return -float(np.sqrt(squares.mean())), seconds

        trials = candidates(quality_ratings.SVD_FIRST, quality_ratings.draw_svd)
        return tune(trials, judge, budget)


def described(tuned: Tuned) -> str:
    """How settings were found."""
    settings = ", ".join(f"{name} {value}" for name, value in tuned.settings.items())
    return (
        f"{settings}: best of {tuned.trials} in {tuned.seconds:.0f} s (validation "
        f"{abs(tuned.value):.4f})"
    )


def measure(
    name: str, peers: list[str], bench: Bench, options: argparse.Namespace
) -> dict[str, Any]:
    """Everything about one set: printed as it comes, and returned for JSON."""
    methods: dict[str, Method] = {}
    ratings = Ratings()
    found: dict[str, Tuned] = {}
    for seed in range(options.seeds):
        data = load_set(name, options.data, seed)
        print(
            f"\n{name}, seed {seed}: {len(data.train):,} interactions to learn from, "
            f"{len(data.items):,} items, {len(data.users):,} users, {len(data.judged):,} judged",
            flush=True,
        )
        lists, seconds = tterec_lists(data, options.threads)
        for method, ranked in lists.items():
            methods.setdefault(method, Method(method)).add(data, ranked, seconds)
            say(methods[method])
        for peer in (PEERS[known] for known in PEERS if known in peers):
            side = min(len(np.unique(data.train.user_ids)), len(data.items))
            if side > peer.most:
                print(f"  {peer.name}: left out, {side:,} users or items are too many for it")
                continue
            if peer.name not in found:
                budget = options.budget or seconds.cpu
                found[peer.name] = bench.tuned(data, peer, budget)
                methods[peer.name] = Method(peer.name, tuned=described(found[peer.name]))
                print(f"  {peer.name}: {methods[peer.name].tuned}")
            methods[peer.name].add(data, *bench.lists(data, peer, found[peer.name].settings))
            say(methods[peer.name])
        if SVD in peers:
            squares, seconds = quality_ratings.tterec_squares(data, options.threads)
            if SVD not in found:
                found[SVD] = bench.tuned_svd(data, options.budget or seconds.cpu)
                ratings.tuned = described(found[SVD])
                print(f"  {SVD}: {ratings.tuned}")
            theirs, their_seconds = bench.svd_squares(data, found[SVD].settings)
            ratings.users.append(data.test.user_ids[quality_ratings.rated(data)])
            ratings.ours.append(squares)
            ratings.theirs.append(theirs)
            ratings.seconds.append((seconds, their_seconds))
    measured = list(methods.values())
    said = verdicts(measured, [method for method in measured if method.name in PEERS])
    if ratings.ours:
        said.append(rating_verdict(ratings))
    print("", table(measured), "", *(f"- {line}" for line in said), sep="\n", flush=True)
    return as_json(measured, ratings if ratings.ours else None, said)


def say(method: Method) -> None:
    """The last seed's figures of a method, as soon as there are any."""
    figures = "  ".join(
        f"{name} {values[-1].mean():.4f}" for name, values in method.figures.items()
    )
    print(
        f"  {method.name:20} {figures}  coverage {method.coverage[-1]:.3f}  "
        f"fit {method.took.wall:.1f} s, CPU {method.took.cpu:.1f} s",
        flush=True,
    )


def chosen(text: str, known: list[str], what: str) -> list[str]:
    """The names of a list with commas; `all` and `none` are what they say."""
    if text in ("all", "none"):
        return known if text == "all" else []
    names = text.split(",")
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SystemExit(f"unknown {what} {', '.join(unknown)}; known are {', '.join(known)}")
    return names


def main() -> None:
    """Measure the sets one by one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder with the three CSV files")
    parser.add_argument("--sets", default="all", help=", ".join(SETS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--peers", default="all", help=f"none, or of {', '.join([*PEERS, SVD])}")
    parser.add_argument("--budget", type=float, help="CPU seconds of tuning, a peer")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--cache", type=Path, help="where to keep what the peers found")
    parser.add_argument("--json", type=Path, help="where to write all figures")
    options = parser.parse_args()
    sets = chosen(options.sets, list(SETS), "sets")
    if options.data is None and options.sets == "all":
        sets = [name for name in SETS if name not in REAL]
        print(f"without --data, {' and '.join(REAL)} are left out")
    peers = chosen(options.peers, [*PEERS, SVD], "peers")
    budget = f"{options.budget:.0f} s" if options.budget else "as long as tterec's fit took"
    print(f"{options.threads} thread(s) for every method; budget of tuning: {budget}")
    bench = Bench(Cache(options.cache), options.threads)
    found = {}
    with threadpool_limits(options.threads):
        for name in sets:
            try:
                found[name] = measure(name, peers, bench, options)
            except LoadError as error:
                raise SystemExit(str(error)) from error
            if options.json:
                options.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
