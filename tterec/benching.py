"""The verb `bench-index`: what each index finds, and how fast, on a generation's own vectors."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tterec import assemble
from tterec.database import schema
from tterec.database.connection import Connection, Database
from tterec.errors import InvalidArgument, NoActiveModel, TterecError
from tterec.records import Progress, ProgressCallback, ignore
from tterec.retrieval import choice, pgvector
from tterec.retrieval.base import CandidateIndex
from tterec.retrieval.choice import INDEXES, PGVECTOR, FaissCandidates
from tterec.retrieval.pgvector import NO_HISTORY, LiveModel, PgvectorIndex

EF_SEARCH = (20, 40, 80, 160, 320, 640)
PROBES = (1, 4, 16, 64, 256)
"""How many lists of faiss-ivfpq are looked at."""
_TIE = 1e-5


@dataclass(frozen=True)
class Measured:
    """An index with a setting: recall@k against exact search, and milliseconds a query.

    setting: `ef_search 80`, `nprobe 4`; empty where there is none. build_seconds and megabytes
    are None of pgvector's index, which is the generation's.
    """

    index: str
    setting: str
    recall: float
    p50_ms: float
    p99_ms: float
    build_seconds: float | None
    megabytes: float | None


@dataclass(frozen=True)
class _Query:
    """A user's vector, what they may not get, the score of their k-th best item, and k or less."""

    vector: NDArray[np.float64]
    excluded: NDArray[np.int64]
    least: float
    wanted: int


def bench(
    database: Database,
    indexes: Sequence[str] | None = None,
    k: int = 10,
    users: int = 200,
    progress: ProgressCallback = ignore,
) -> list[Measured]:
    """Measure every setting of the indexes; by default of all that are installed.

    Queries are those of real users, with what they have met excluded, as they are served: to the
    exact vectors of the candidates. Raises NoActiveModel, and InvalidArgument for an unknown
    index or nobody to ask for.
    """
    for name in indexes or ():
        if name not in INDEXES:
            raise InvalidArgument(f"index {name!r} is unknown; choose {', '.join(INDEXES)}")
    if k < 1 or users < 1:
        raise InvalidArgument(f"k = {k} and users = {users} must be at least 1")
    chosen = list(indexes or _installed(progress))
    with database.connect() as connection:
        pgvector.prepare(connection)
        pgvector.in_snapshot(connection, lambda: schema.require_current(connection))
        return pgvector.in_snapshot(
            connection, lambda: _bench(connection, chosen, k, users, progress)
        )


def fastest(measured: Sequence[Measured], recall: float) -> Measured | None:
    """The setting with the lowest median latency of those that reach a recall."""
    reaching = [one for one in measured if one.recall >= recall]
    return min(reaching, key=lambda one: one.p50_ms, default=None)


def _installed(progress: ProgressCallback) -> list[str]:
    from tterec.retrieval import faiss_index

    try:
        faiss_index.require()
    except TterecError:
        progress(
            Progress(
                "bench",
                message="FAISS is not installed: pgvector alone. For the others: "
                "pip install 'tterec[faiss]'",
            )
        )
        return [PGVECTOR]
    return list(INDEXES)


def _bench(
    connection: Connection, names: Sequence[str], k: int, users: int, progress: ProgressCallback
) -> list[Measured]:
    model = pgvector.live_model(connection)
    if model is None:
        raise NoActiveModel
    queries = _queries(connection, model, k, users, progress)
    measured = []
    for name in names:
        for setting, seconds, megabytes, index in _settings(connection, model, name, progress):
            label = f"{name} {setting}".strip()
            recalls, times = [], []
            for number, query in enumerate(queries, start=1):
                start = time.perf_counter()
                found = index.candidates(query.vector, k, query.excluded)
                scores = found.vectors.astype(np.float64) @ query.vector
                best = np.sort(scores)[::-1][: query.wanted]
                times.append(time.perf_counter() - start)
                recalls.append((best >= query.least).sum() / query.wanted)
                progress(Progress(label, number, len(queries)))
            p50, p99 = (np.quantile(times, q) * 1000 for q in (0.5, 0.99))
            measured.append(
                Measured(
                    name,
                    setting,
                    float(np.mean(recalls)),
                    float(p50),
                    float(p99),
                    seconds,
                    megabytes,
                )
            )
    return measured


def _queries(
    connection: Connection, model: LiveModel, k: int, users: int, progress: ProgressCallback
) -> list[_Query]:
    items = pgvector.catalogue(connection, model)
    everybody = pgvector.user_ids(connection, pgvector.all_users(connection))
    known = [user for user in everybody if user is not None]
    drawn = np.random.default_rng(0).permutation(np.array(known, dtype=np.int64))
    histories_of, queries = pgvector.histories, list[_Query]()
    for number, user in enumerate(drawn.tolist()):
        if len(queries) == users:
            break
        history = histories_of(connection, [user]).get(user, NO_HISTORY)
        told = history.item_ids[: model.max_history]
        found = pgvector.history_vectors(connection, model, told) if len(told) else {}
        rows = [row for row, item in enumerate(told.tolist()) if item in found]
        profile = pgvector.profiles(connection, model, [user]).get(user)
        own = np.array([found[told[row]] for row in rows]).reshape(-1, model.dim)
        vector, source = assemble.embed(model, profile, own, history.ratings[rows])
        if vector is None or source != "history":
            continue
        scores = items.vectors @ vector.astype(np.float32)
        scores[np.isin(items.item_ids, history.item_ids)] = -np.inf
        wanted = min(k, int(np.isfinite(scores).sum()))
        if wanted:
            least = float(np.partition(scores, -wanted)[-wanted])
            least -= _TIE * max(1.0, abs(least))
            queries.append(_Query(vector, history.item_ids, least, wanted))
        progress(Progress("exact search", len(queries), min(users, len(drawn) - number)))
    if not queries:
        raise InvalidArgument("no user has met an item of the live generation; load some ratings")
    return queries


def _settings(
    connection: Connection, model: LiveModel, name: str, progress: ProgressCallback
) -> Iterator[tuple[str, float | None, float | None, CandidateIndex]]:
    """The index with every setting, how long it took to build, and its size in MB."""
    from dataclasses import replace

    if name == PGVECTOR:
        for ef_search in EF_SEARCH:
            yield (
                f"ef_search {ef_search}",
                None,
                None,
                PgvectorIndex(connection, replace(model, ef_search=ef_search)),
            )
        return
    progress(Progress(f"build {name}"))
    start = time.perf_counter()
    index = choice.build(name, connection, model)
    seconds = time.perf_counter() - start
    megabytes = (len(index.dump()) + index.item_ids.nbytes) / 1e6
    efforts: tuple[int, ...] = {"faiss-hnsw": EF_SEARCH, "faiss-ivfpq": PROBES}.get(name, (0,))
    naming: Callable[[int], str] = {
        "faiss-hnsw": lambda n: f"ef_search {n}",
        "faiss-ivfpq": lambda n: f"nprobe {n}",
    }.get(name, lambda _: "")
    for effort in efforts:
        candidates = FaissCandidates(connection, model, index.with_effort(effort))
        yield naming(effort), seconds, megabytes, candidates
