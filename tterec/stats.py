"""The verb `stats`: how the live generation is doing, by Postgres's counters and our tables.

Nothing is written, here or where recommendations are read: what is not counted anyhow is computed
now.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np

from tterec import probing
from tterec.database import listeners, schema
from tterec.database.connection import Connection, Database
from tterec.database.driver_errors import errors_wrapped
from tterec.ranking import exact
from tterec.records import Progress, ProgressCallback, ignore
from tterec.retrieval import pgvector
from tterec.retrieval.live_models import LiveModel
from tterec.retrieval.pgvector import PgvectorIndex
from tterec.store import (
    change_queue,
    counters,
    differences,
    list_changes,
    recall,
    registry,
    update_log,
    user_lists,
)
from tterec.store.change_queue import Queue
from tterec.store.counters import DeadTuples, FunctionCalls, IndexUse
from tterec.store.registry import Active
from tterec.store.update_log import LastUpdate

T = TypeVar("T")

# A scan of all vectors for each: a share of 50 lists of 20 is known to half a percent or so.
_USERS = 50
_LONGEST = 20.0
# Scores have six decimals; what scores the same is as good.
_TIE = 1.5e-6


@dataclass(frozen=True)
class RecallDrift:
    """Recall@k of the live index, as serving asks it, for so many users: now, and as measured
    before the promotion (None where it was not)."""

    k: int
    users: int
    now: float
    then: float | None


@dataclass(frozen=True)
class Stale:
    """Rows of a source, and how many of them came, changed or went since they were embedded."""

    total: int
    stale: int

    @property
    def share(self) -> float:
        """0 to 1; the rows that went can make it more than all there are."""
        return min(self.stale / max(self.total, 1), 1.0)


@dataclass(frozen=True)
class StaleLists(Stale):
    """Precomputed lists, how many of them may be wrong by now or are nobody's any more, and how
    many active users have none yet."""

    missing: int


@dataclass(frozen=True)
class Stats:
    """What `tterec stats` shows. What could not be found out is None, and `unseen` says why."""

    live: Active | None
    replica: bool
    track_functions: str
    to_track: str | None
    functions: list[FunctionCalls] | None
    recall: RecallDrift | None
    users: Stale | None
    books: Stale | None
    lists: StaleLists | None
    indexes: list[IndexUse] | None
    dead_tuples: list[DeadTuples] | None
    queue: Queue | None
    worker_listens: bool | None
    last_update: LastUpdate | None
    unseen: dict[str, str] = field(default_factory=dict)


def stats(database: Database, progress: ProgressCallback = ignore) -> Stats:
    """How the live generation is doing, in one snapshot that writes nothing.

    What this role may not read is left out, and said. Works on a replica. Raises SchemaOutdated.
    """
    with errors_wrapped(), database.of("stats").connect() as connection:
        pgvector.prepare(connection)
        return pgvector.in_snapshot(connection, lambda: _stats(connection, progress))


def _stats(connection: Connection, progress: ProgressCallback) -> Stats:
    schema.require_current(connection)
    unseen: dict[str, str] = {}

    def seen(name: str, read: Callable[[], T]) -> T | None:
        progress(Progress(f"count {name.replace('_', ' ')}"))
        found = counters.permitted(connection, read)
        if isinstance(found, str):
            unseen[name] = found
            return None
        return found

    live = registry.active(connection)
    model = pgvector.live_model(connection)
    replica = counters.in_recovery(connection)
    tracked = counters.tracked(connection)
    if tracked == "none":
        unseen["functions"] = "calls are not counted here (track_functions = none)"
    if replica:
        unseen["dead_tuples"] = "a replica does not count them; ask the primary"
        unseen["worker_listens"] = "workers listen on the primary; ask there"
    numbers = [] if live is None else [n for n in (live.generation, live.previous) if n is not None]
    return Stats(
        live=live,
        replica=replica,
        track_functions=tracked,
        to_track=counters.to_track(connection) if tracked == "none" else None,
        functions=seen("functions", lambda: counters.function_calls(connection)),
        recall=None
        if model is None
        else seen("recall", lambda: _recall(connection, model, progress)),
        users=None
        if live is None
        else seen("users", lambda: _stale(connection, "users", live.generation)),
        books=None
        if live is None
        else seen("books", lambda: _stale(connection, "items", live.generation)),
        lists=None if live is None else seen("lists", lambda: _lists(connection, live.generation)),
        indexes=seen("indexes", lambda: counters.index_use(connection, numbers)),
        dead_tuples=None
        if replica
        else seen("dead_tuples", lambda: counters.dead_tuples(connection)),
        queue=seen("queue", lambda: change_queue.waiting(connection)),
        worker_listens=None if replica else listeners.any_listens(connection),
        last_update=seen("last_update", lambda: update_log.last(connection)),
        unseen=unseen,
    )


def _stale(connection: Connection, name: str, generation: int) -> Stale:
    live = differences.live_sources(connection, generation)
    changed = {"users": differences.changed_users, "items": differences.changed_items}[name]
    stale = len(changed(connection, generation, live))
    stale += differences.unnumbered(connection, name, live)
    return Stale(differences.count(connection, name), stale)


def _lists(connection: Connection, generation: int) -> StaleLists | None:
    """None: there are none."""
    total = user_lists.count(connection, generation)
    if not total:
        return None
    changes = list_changes.pending(
        connection, generation, user_lists.last_change(connection, generation)
    )
    again = user_lists.touched(connection, generation, changes)
    out = user_lists.outdated(connection, generation)
    stale = again.union(out.to_make, out.to_drop).difference(out.without)
    return StaleLists(total, len(stale), len(out.without))


def _recall(
    connection: Connection, model: LiveModel, progress: ProgressCallback
) -> RecallDrift | None:
    """None where there is nobody to ask for."""
    then = registry.info(connection, model.generation).metrics.get("index") or {}
    k = int(then.get("k", recall.K))
    index = PgvectorIndex(connection, model)
    found: list[float] = []
    began = time.monotonic()
    for probe in probing.drawn(connection, model, seed=model.generation):
        best, ours = (
            np.sort(exact.exact_scores(probe.vector, one(probe.vector, k, probe.seen).vectors))
            for one in (index.scanned, index.candidates)
        )
        if len(best):
            threshold = best[-k:][0] - _TIE
            found.append(min((ours >= threshold).sum() / min(k, len(best)), 1.0))
        progress(Progress("compare the index with a scan", len(found), _USERS))
        if len(found) == _USERS or time.monotonic() - began > _LONGEST:
            break
    if not found:
        return None
    return RecallDrift(k, len(found), round(float(np.mean(found)), 4), then.get("recall"))
