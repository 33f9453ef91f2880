"""The trials of `tterec tune`: kept by Optuna in a schema of the database, and proposed by it.

Optuna makes and owns the tables of the schema `tterec_tune`; dropping the schema forgets all
trials and harms nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tterec import errors
from tterec.database import schema
from tterec.database.connection import Connection, Database
from tterec.database.driver_errors import errors_wrapped

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.storages import RDBStorage

SCHEMA = "tterec_tune"

# Trials drawn at random before the sampler models them: Optuna's 10 are a third of 20 minutes.
_RANDOM_TRIALS = 6
# Studies whose sketches share less than this are of other data. A sketch of 256 knows the share
# to one or two percent.
_SAME_DATA = 0.95


@dataclass(frozen=True, slots=True)
class Span:
    """A setting to be searched from `low` to `high`; with `log`, evenly in its logarithm."""

    name: str
    low: float
    high: float
    log: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """A setting to be searched among `values`."""

    name: str
    values: tuple[int | str, ...]


Space = Sequence[Span | Choice]
Settings = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Trial:
    """A finished trial: its figure, and the seconds that it took."""

    number: int
    settings: Settings
    figure: float
    seconds: float


def require_optuna() -> None:
    """Raises TterecError with the command to type where Optuna is not installed."""
    try:
        import optuna
    except ImportError as error:
        raise errors.TterecError(
            "tterec tune searches with Optuna, which is not installed; "
            "run: pip install 'tterec[tune]'"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # its lines are not our progress


@contextmanager
def opened(
    database: Database,
    *,
    identity: str,
    sketch: Sequence[int],
    space: Space,
    default: Settings,
    minimise: bool,
    seed: int,
) -> Iterator[Trials]:
    """The trials of one study: one `identity` (at most 400 characters), one set of data.

    `sketch` stands for the data: at most 256 of its smallest hashes, as `sketch_of` makes them.
    Trials that a killed process left unfinished are marked as failed, so the caller holds
    `locks.hold_tuning`. Raises DatabaseError where another Optuna made the tables.
    """
    with database.connect() as connection:
        schema.create(connection, SCHEMA)
    with _storage(database) as storage:
        study = _study(storage, identity, list(sketch), minimise)
        yield Trials(study, space, default, seed)


class Trials:
    """The trials of one study: what was tried, and what to try next."""

    def __init__(self, study: Study, space: Space, default: Settings, seed: int) -> None:
        from optuna.samplers import TPESampler
        from optuna.trial import TrialState

        self._study = study
        self._default = default
        self._distributions = {one.name: _distribution(one) for one in space}
        for left in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            study.tell(left.number, state=TrialState.FAIL)
        # Another seed after each start, or a search that goes on would draw the same again.
        study.sampler = TPESampler(
            n_startup_trials=_RANDOM_TRIALS, seed=(seed + len(study.trials)) % 2**32
        )

    def finished(self) -> list[Trial]:
        """Those with a figure, in the order of their numbers."""
        from optuna.trial import TrialState

        return [
            Trial(one.number, self._settings(one.params), one.value, one.duration.total_seconds())
            for one in self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
            if one.value is not None and one.duration is not None
        ]

    def begin(self) -> tuple[int, Settings]:
        """A new trial's number and settings: the defaults until they are finished."""
        from optuna.trial import TrialState

        if all(one.settings != self._default for one in self.finished()) and not (
            self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
        ):
            self._study.enqueue_trial(self._default)
        trial = self._study.ask(self._distributions)
        return trial.number, self._settings(trial.params)

    def finish(self, number: int, figure: float) -> None:
        """Keep a trial's figure."""
        self._study.tell(number, figure)

    def give_up(self, number: int, *, failed: bool) -> None:
        """Keep a trial without a figure: it failed, or its time was up."""
        from optuna.trial import TrialState

        self._study.tell(number, state=TrialState.FAIL if failed else TrialState.PRUNED)

    def note(self, key: str, value: float) -> None:
        """Keep a number with the study."""
        self._study.set_user_attr(key, value)

    def noted(self, key: str) -> float | None:
        """The number that was kept under this key."""
        value: float | None = self._study.user_attrs.get(key)
        return value

    def _settings(self, parameters: Mapping[str, Any]) -> Settings:
        """What was tried: of a setting that is not the default, three digits."""
        return {
            name: float(f"{value:.3g}")
            if isinstance(value, float) and value != self._default[name]
            else value
            for name, value in parameters.items()
        }


def _distribution(one: Span | Choice) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    if isinstance(one, Choice):
        return CategoricalDistribution(one.values)
    return FloatDistribution(one.low, one.high, log=one.log)


def _study(storage: RDBStorage, identity: str, sketch: list[int], minimise: bool) -> Study:
    """The study of this identity and data; a new one if there is none."""
    import optuna

    alike = sorted(
        name for name in optuna.get_all_study_names(storage) if name.startswith(f"{identity} ")
    )
    for name in alike:
        found = optuna.load_study(study_name=name, storage=storage)
        if overlap(json.loads(found.user_attrs.get("sketch", "[]")), sketch) >= _SAME_DATA:
            return found
    study = optuna.create_study(
        study_name=f"{identity} {len(alike) + 1}",
        storage=storage,
        direction="minimize" if minimise else "maximize",
    )
    study.set_user_attr("sketch", json.dumps(sketch))
    return study


def overlap(one: Sequence[int], other: Sequence[int]) -> float:
    """The share of their union that two sets have in common, estimated from their sketches.

    The smallest hashes of the union are a sample of it (Broder 1997, bottom-k sketches).
    """
    union = sorted({*one, *other})[: max(len(one), len(other))]
    both = {*one} & {*other}
    return sum(each in both for each in union) / max(len(union), 1)


@contextmanager
def _storage(database: Database) -> Iterator[RDBStorage]:
    from optuna.exceptions import StorageInternalError
    from optuna.storages import RDBStorage
    from sqlalchemy import NullPool

    def connection() -> Connection:
        opened = database.open()
        opened.execute(f"SET search_path = {SCHEMA}".encode())
        opened.commit()
        return opened

    with errors_wrapped():
        try:
            try:
                storage = RDBStorage(
                    "postgresql+psycopg://",
                    engine_kwargs={"creator": connection, "poolclass": NullPool},
                )
            except RuntimeError as error:  # its tables are those of another version
                raise errors.DatabaseError(
                    "the trials in this database are of another version of Optuna; forget them: "
                    f'psql "$(tterec db url)" -c "DROP SCHEMA {SCHEMA} CASCADE"'
                ) from error
            try:
                yield storage
            finally:
                storage.remove_session()
        except StorageInternalError as error:  # it wraps SQLAlchemy's, which wraps the driver's
            raise (error.__cause__ or error) from None
