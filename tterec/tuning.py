"""The verb `tune`: the training settings that validate best on the data of a database."""

from __future__ import annotations

import hashlib
import json
import math
import re
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from tterec import fitting
from tterec.config import TrainingConfig
from tterec.database import schema
from tterec.database.connection import Database
from tterec.errors import InvalidArgument, TrainingError
from tterec.records import Interactions, Progress, ProgressCallback, ignore
from tterec.search_space import search_space
from tterec.store import locks, reading, sources, trials
from tterec.store.reading import TrainingData
from tterec.store.sources import Queries
from tterec.store.stages import stage
from tterec.store.trials import Settings, Trial, Trials

Verdict = Literal["better", "refuted", "default", "unconfirmed"]

_LONGEST = 30 * 24 * 3600.0
_UNITS = {"s": 1, "m": 60, "h": 3600}
_WORST = {"NDCG@20": 0.0, "RMSE": 10.0}
# What the hashes of a sketch are made with; other numbers would make other studies.
_ODD = (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
_SKETCH = 256


def seconds_of(budget: str) -> float:
    """The seconds of a time like `90s`, `20m` or `1.5h`. Raises InvalidArgument."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)([smh])", budget.strip(), re.ASCII)
    seconds = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if not 0 < seconds <= _LONGEST:
        raise InvalidArgument(
            f"the budget {budget!r} is no time; write it like 90s, 20m or 2h (at most 720h)"
        )
    return seconds


@dataclass(frozen=True)
class Validated:
    """Settings with their figures on the validation interactions that all trials share, and on
    others, drawn by another seed: None where they were not asked.
    """

    number: int
    settings: Settings
    figure: float
    confirmed: float | None


@dataclass(frozen=True)
class Tuned:
    """What a search found.

    `settings` are those to train with: the fixed ones, and those of `best` or, where its verdict
    is 'refuted' or 'default', of `default`. `measure` names the figures. `trials` counts the
    finished ones of all runs; `stopped` says that Ctrl-C ended this one.
    """

    settings: Settings
    measure: str
    default: Validated
    best: Validated
    verdict: Verdict
    trials: int
    stopped: bool


def tune(
    database: Database,
    fixed: Mapping[str, Any] | None = None,
    *,
    budget: float,
    most: int | None = None,
    progress: ProgressCallback = ignore,
) -> Tuned:
    """Search the settings that `fixed` leaves open, for `budget` seconds or `most` trials.

    The defaults are the first trial. The best trial is fitted once more, as are the defaults, on
    other validation interactions, and the defaults stay unless it wins there too; the time for
    that is set aside. Trials are kept in the database: a run goes on with those of the same
    objective, queries, fixed settings and data. KeyboardInterrupt ends the search early; before
    the first trial is finished it passes through. Raises Busy while another process tunes,
    ConfigError, SourceError, TrainingError where no trial was finished.
    """
    started = time.monotonic()
    database = database.of("tune")
    trials.require_optuna()
    fixed = dict(fixed or {})
    config = TrainingConfig(**fixed)
    space = search_space(config.objective, fixed)
    default = {one.name: getattr(config, one.name) for one in space}
    with database.connect(autocommit=True, patient=True) as guard:  # holds the lock from end to end
        schema.require_current(guard)
        locks.hold_tuning(guard)
        queries = sources.chosen(guard, {})
        with stage(guard, "read sources", progress):
            data = reading.read_sources(guard, queries, progress)
        with trials.opened(
            database,
            identity=_identity(config, queries, data, space),
            sketch=sketch_of(data.interactions),
            space=space,
            default=default,
            minimise=config.objective == "mse",
            seed=config.seed,
        ) as kept:
            search = _Search(
                kept, data, config, default, deadline=started + budget, progress=progress
            )
            stopped = False
            try:
                search.run(most)
                search.confirm()
            except KeyboardInterrupt:
                if not kept.finished():
                    raise
                stopped = True
            if not kept.finished():
                raise TrainingError(
                    f"no training came to its end within {budget:.0f} seconds; "
                    "give it more time: tterec tune --budget 1h"
                )
            return search.result(fixed, stopped)


def _identity(config: TrainingConfig, queries: Queries, data: TrainingData, space: Any) -> str:
    """A name for all that figures must have in common to be compared, but the interactions."""
    settings = asdict(config)
    del settings["threads"], settings["device"]
    same = [settings, asdict(queries), data.kinds, repr(space)]
    text = json.dumps(same, sort_keys=True)
    return f"{config.objective} {hashlib.sha256(text.encode()).hexdigest()[:16]}"


def sketch_of(interactions: Interactions) -> list[int]:
    """The smallest hashes of the (user, item) pairs: how like other interactions these are."""
    with np.errstate(over="ignore"):
        mixed = interactions.user_ids.astype(np.uint64) * np.uint64(_ODD[0])
        mixed += interactions.item_ids.astype(np.uint64)
        for odd in _ODD[1:]:  # the multipliers and shifts of splitmix64's finaliser
            mixed = (mixed ^ (mixed >> np.uint64(31))) * np.uint64(odd)
        mixed ^= mixed >> np.uint64(31)
    return [int(one) for one in np.sort(mixed)[:_SKETCH]]


def figure_of(metrics: Mapping[str, Any], objective: str) -> float:
    """What a trial is judged by: the RMSE of mse, else NDCG@20, of the second stage where that is
    better and so is kept. Raises TrainingError where nothing was validated.
    """
    stages = ("validation_ndcg_at_20", "validation_ndcg_at_20_ranker")
    names = ("validation_rmse",) if objective == "mse" else stages
    figures = [metrics[name] for name in names if metrics.get(name) is not None]
    if not figures:
        raise TrainingError(
            "no interaction can be held out to judge settings by: users with two or more are "
            "needed, and validation_users above 0"
        )
    return float(max(figures))


class _OutOfTime(Exception):
    """Raised out of a training, by its progress."""


class _Search:
    """One run: trials until the time is up, then the confirmation of the best."""

    def __init__(
        self,
        kept: Trials,
        data: TrainingData,
        config: TrainingConfig,
        default: Settings,
        *,
        deadline: float,
        progress: ProgressCallback,
    ) -> None:
        self._kept = kept
        self._data = data
        self._config = config
        self._default = default
        self._deadline = deadline
        self._progress = progress
        self._sign = -1.0 if config.objective == "mse" else 1.0
        self.measure = "RMSE" if config.objective == "mse" else "NDCG@20"

    def run(self, most: int | None) -> None:
        """Try settings until the time is up, but for what confirming takes, or `most` times."""
        if finished := self._kept.finished():
            self._say(f"going on from {_counted(finished)}, {self._best_line()}")
        done = 0
        while most is None or done < most:
            until = self._deadline - self._confirming()
            shortest = min((one.seconds for one in self._kept.finished()), default=0.0)
            if time.monotonic() + shortest > until:
                break
            number, settings = self._kept.begin()
            try:
                figure = self._fit(settings, self._config.seed, until)
            except _OutOfTime:
                self._kept.give_up(number, failed=False)
                self._say(f"trial {number}  stopped, its time was up")
                break
            except TrainingError as error:
                self._kept.give_up(number, failed=True)
                if settings == self._default:
                    raise
                self._say(f"trial {number}  failed: {error}")
            except BaseException:
                self._kept.give_up(number, failed=True)
                raise
            else:
                self._kept.finish(number, figure)
                shown = " ".join(f"{name} {_short(value)}" for name, value in settings.items())
                self._say(
                    f"trial {number}  {self.measure} {figure:.4f}  {self._best_line()}  "
                    f"{_duration(self._deadline - time.monotonic())} left  ({shown})"
                )
            done += 1

    def confirm(self) -> None:
        """Fit the best and the defaults again, on other validation interactions."""
        best, default = self._leaders()
        if best is None or default is None or best == default:
            return
        for one in (best, default):
            if self._confirmed(one) is None:
                self._say(f"confirming trial {one.number} on other validation interactions")
                try:
                    figure = self._fit(one.settings, (self._config.seed + 1) % 2**63, math.inf)
                except TrainingError as error:  # or the next run would meet it again
                    self._say(f"trial {one.number}  failed: {error}")
                    figure = _WORST[self.measure]
                self._kept.note(_key(one), figure)

    def result(self, fixed: Settings, stopped: bool) -> Tuned:
        """What is known now. At least one trial is finished."""
        best, default = self._leaders()
        assert best is not None
        assert default is not None
        found, usual = self._validated(best), self._validated(default)
        verdict: Verdict
        if best == default:
            verdict = "default"
        elif found.confirmed is None or usual.confirmed is None:
            verdict = "unconfirmed"
        elif self._sign * found.confirmed > self._sign * usual.confirmed:
            verdict = "better"
        else:
            verdict = "refuted"
        chosen = found if verdict in ("better", "unconfirmed") else usual
        return Tuned(
            settings=fixed | chosen.settings,
            measure=self.measure,
            default=usual,
            best=found,
            verdict=verdict,
            trials=len(self._kept.finished()),
            stopped=stopped,
        )

    def _fit(self, settings: Settings, seed: int, until: float) -> float:
        def watch(step: Progress) -> None:
            if time.monotonic() > until:
                raise _OutOfTime
            if step.message is None:  # not a line an epoch
                self._progress(step)

        config = replace(self._config, **settings, seed=seed)
        data = self._data
        model = fitting.fit(data.interactions, data.users, data.items, config, watch)
        return figure_of(model.metrics, config.objective)

    def _leaders(self) -> tuple[Trial | None, Trial | None]:
        """The best trial, of equal ones the defaults or the first, and that of the defaults."""
        finished = self._kept.finished()
        default = next((one for one in finished if one.settings == self._default), None)
        best = max(
            finished, key=lambda one: (self._sign * one.figure, one == default), default=None
        )
        return best, default

    def _confirming(self) -> float:
        """Seconds that confirming the best will take."""
        best, default = self._leaders()
        if best is None or default is None:
            return 0.0
        seconds = best.seconds if best == default or self._confirmed(best) is None else 0.0
        if self._confirmed(default) is None:
            seconds += default.seconds
        return seconds

    def _confirmed(self, one: Trial) -> float | None:
        return self._kept.noted(_key(one))

    def _validated(self, one: Trial) -> Validated:
        return Validated(one.number, one.settings, one.figure, self._confirmed(one))

    def _best_line(self) -> str:
        best, _ = self._leaders()
        return f"best {best.figure:.4f} (trial {best.number})" if best else "no best yet"

    def _say(self, line: str) -> None:
        self._progress(Progress("tune", message=line))


def _counted(finished: list[Trial]) -> str:
    return "one trial" if len(finished) == 1 else f"{len(finished)} trials"


def _key(one: Trial) -> str:
    return f"confirmed {one.number}"


def _short(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(max(int(seconds), 0), 60)
    return f"{minutes}m {rest:02}s" if minutes else f"{rest}s"
