"""The verb bench-index: how much each candidate index finds, and how long it takes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from tterec import probing
from tterec.database import schema
from tterec.database.connection import Connection, Database
from tterec.database.driver_errors import errors_wrapped
from tterec.errors import EvaluationError, InvalidArgument, NoActiveModel, TterecError
from tterec.ranking import exact
from tterec.records import Progress, ProgressCallback, ignore
from tterec.retrieval import choice, pgvector
from tterec.retrieval.base import CandidateIndex, Candidates
from tterec.retrieval.live_models import LiveModel
from tterec.retrieval.matrix import MatrixIndex
from tterec.store import index_build
from tterec.store.recall import Probe
from tterec.store.stages import showing, stage

# Each costs about twice the one before.
EF_SEARCH = (20, 40, 80, 160, 320, 640)
NPROBE = (1, 2, 4, 8, 16, 32, 64, 128)
_WARM = 5
# Scores have six decimals; what scores the same is as good.
_TIE = 1.5e-6


@dataclass(frozen=True)
class Measured:
    """One index with one setting: recall@k, milliseconds a list at p50 and p99, the seconds that
    building took and the bytes that it takes; None where that is unknown, or there is none."""

    index: str
    setting: str
    recall: float
    p50_ms: float
    p99_ms: float
    build_seconds: float | None
    bytes: int | None


@dataclass(frozen=True)
class Bench:
    """What was measured, and the least recall that is wanted."""

    generation: int
    items: int
    dim: int
    users: int
    k: int
    wanted: float
    rows: list[Measured]

    @property
    def fastest(self) -> Measured | None:
        """Of the settings that reach the wanted recall, the one with the least median."""
        reached = [row for row in self.rows if row.recall >= self.wanted]
        return min(reached, key=lambda row: row.p50_ms, default=None)


def available() -> tuple[str, ...]:
    """The indexes that can be measured here: those of FAISS only where it is installed."""
    from tterec.retrieval.faiss_index import require_faiss

    try:
        require_faiss()
    except TterecError:
        return (choice.PGVECTOR,)
    return choice.INDEXES


def bench_index(
    database: Database,
    indexes: Sequence[str] = choice.INDEXES,
    *,
    k: int = 10,
    users: int = 200,
    recall: float = 0.95,
    progress: ProgressCallback = ignore,
) -> Bench:
    """Measure indexes on the live generation, by lists of users drawn from those who have one.

    A list is what serving makes: the k best items for the user's vector, without those met, with
    title and exact score. Raises NoActiveModel, InvalidArgument, EvaluationError without users
    or items, TterecError where FAISS is missing.
    """
    if k < 1 or users < 1:
        raise InvalidArgument(f"k = {k} and users = {users} must be 1 or more")
    if not 0 < recall <= 1:
        raise InvalidArgument(f"recall = {recall:g} is not above 0 and at most 1")
    for name in indexes:
        choice.Indexes(name)
    database = database.of("bench-index")
    with errors_wrapped(), database.connect() as connection:
        pgvector.prepare(connection)
        with connection.transaction():
            schema.require_current(connection)
            model = pgvector.live_model(connection)
            if model is None:
                raise NoActiveModel
            with stage(connection, "read vectors", progress):
                items = pgvector.catalogue(connection, model)
            with stage(connection, "draw users", progress):
                probes = _probes(connection, model, users, progress)
            if not probes or not len(items):
                raise EvaluationError(
                    "there is no user with interactions to make a list for; "
                    "load some and train: tterec load, tterec train"
                )
            with stage(connection, "exact lists", progress):
                wanted = _exact(MatrixIndex(items), probes, k, progress)
            rows: list[Measured] = []
            for name in [one for one in choice.INDEXES if one in indexes]:
                with stage(connection, f"build {name}", progress):
                    built = _built(database, connection, model, name, items=len(items))
                with stage(connection, f"measure {name}", progress):
                    rows += [_measured(one, probes, wanted, k, progress) for one in built]
                del built  # two of them need not fit
    return Bench(model.generation, len(items), model.dim, len(probes), k, recall, rows)


@dataclass(frozen=True)
class _Subject:
    index: str
    setting: str
    candidates: CandidateIndex
    build_seconds: float | None
    bytes: int | None


def _built(
    database: Database, connection: Connection, model: LiveModel, name: str, *, items: int
) -> list[_Subject]:
    """An index, built anew, with each of its settings."""
    if name == choice.PGVECTOR:
        seconds = _rebuilt(database, model, items)
        size = pgvector.index_bytes(connection, model)
        subjects = [
            _Subject(
                name,
                f"ef_search {ef_search}",
                pgvector.PgvectorIndex(connection, replace(model, ef_search=ef_search)),
                seconds,
                size,
            )
            for ef_search in EF_SEARCH
        ]
        return [*subjects, _Subject(name, "scan", _Scan(connection, model), None, None)]
    from tterec.retrieval.faiss_candidates import FaissCandidates
    from tterec.retrieval.faiss_index import FaissIndex

    kind = choice.KINDS[name]
    item_ids, vectors = pgvector.all_item_vectors(connection, model)
    began = time.perf_counter()
    built = FaissIndex.build(kind, item_ids, vectors)
    seconds = time.perf_counter() - began
    size = built.to_bytes().nbytes
    settings = {
        "flat": [("", 1)],
        "hnsw": [(f"ef_search {effort}", effort) for effort in EF_SEARCH],
        "ivfpq": [(f"nprobe {effort}", effort) for effort in NPROBE if effort <= built.lists],
    }
    return [
        _Subject(name, setting, FaissCandidates(connection, model, built, effort), seconds, size)
        for setting, effort in settings[kind]
    ]


def _rebuilt(database: Database, model: LiveModel, items: int) -> float | None:
    """How long pgvector's index takes; in a transaction of its own, as it writes."""
    with database.connect() as other, showing(other, "build pgvector"):
        return index_build.build_seconds(other, model.generation, items, model.dim)


class _Scan:
    """pgvector without its index."""

    def __init__(self, connection: Connection, model: LiveModel) -> None:
        self._index = pgvector.PgvectorIndex(connection, model)

    def candidates(
        self,
        user_vector: NDArray[np.floating],
        k: int,
        excluded: NDArray[np.int64],
        *,
        once: bool = False,  # noqa: ARG002 (a scan finds all at once)
    ) -> Candidates:
        """See CandidateIndex; never misses an item."""
        return self._index.scanned(user_vector, k, excluded)


def _measured(
    subject: _Subject,
    probes: Sequence[Probe],
    wanted: Sequence[NDArray[np.float64]],
    k: int,
    progress: ProgressCallback,
) -> Measured:
    def scores(probe: Probe) -> NDArray[np.float64]:
        found = subject.candidates.candidates(probe.vector, k, probe.seen)
        similarities = exact.exact_scores(probe.vector, found.vectors)
        return similarities[exact.rank(found.item_ids, similarities, k)]

    for probe in probes[:_WARM]:
        scores(probe)
    what = f"{subject.index} {subject.setting}".rstrip()
    found, times = [], []
    for number, (probe, best) in enumerate(zip(probes, wanted, strict=True), start=1):
        began = time.perf_counter()
        ours = scores(probe)
        times.append(1000 * (time.perf_counter() - began))
        if len(best):
            found.append((ours >= best[-1] - _TIE).sum() / len(best))
        progress(Progress(what, number, len(probes)))
    p50, p99 = np.percentile(times, [50, 99])
    return Measured(
        subject.index,
        subject.setting,
        round(float(np.mean(found)), 4) if found else 1.0,
        round(float(p50), 3),
        round(float(p99), 3),
        None if subject.build_seconds is None else round(subject.build_seconds, 2),
        subject.bytes,
    )


def _exact(
    index: MatrixIndex, probes: Sequence[Probe], k: int, progress: ProgressCallback
) -> list[NDArray[np.float64]]:
    """Each user's k best scores (at most k,), the best first."""
    best = []
    for number, probe in enumerate(probes, start=1):
        found = index.candidates(probe.vector, k, probe.seen)
        scores = exact.exact_scores(probe.vector, found.vectors)
        best.append(scores[exact.rank(found.item_ids, scores, k)])
        progress(Progress("exact lists", number, len(probes)))
    return best


def _probes(
    connection: Connection, model: LiveModel, users: int, progress: ProgressCallback
) -> list[Probe]:
    """At most so many users with a history, with their vectors and all that they have met."""
    probes: list[Probe] = []
    for probe in islice(probing.drawn(connection, model, seed=0), users):
        probes.append(probe)
        progress(Progress("users", len(probes), users))
    return probes
