"""The verb `update`: the live generation follows its sources, without training."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tterec import errors
from tterec.database import schema
from tterec.database.connection import Connection, Database
from tterec.records import FeatureTable, Progress, ProgressCallback, ignore
from tterec.store import (
    change_queue,
    clusters,
    differences,
    item_updates,
    locks,
    popularity,
    registry,
    user_updates,
)
from tterec.store.batches import Superseded, batch
from tterec.store.item_updates import Counts
from tterec.store.state_tables import Traits

if TYPE_CHECKING:
    from tterec.towers import Towers

T = TypeVar("T")

BATCH = 500
"""Rows a transaction. A worker that wants one of them waits for no more than these."""


@dataclass(frozen=True)
class Updated:
    """What an update did to a generation, and in how many seconds.

    `recounted` are items whose popularity was counted again.
    """

    generation: int
    items: Counts
    users: Counts
    recounted: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"Generation {self.generation} is up to date: {_counted('item', self.items)}; "
            f"{_counted('user', self.users)}; {self.seconds:,.1f} s"
        )


def _counted(noun: str, counts: Counts) -> str:
    return f"{counts.new:,} new, {counts.changed:,} changed and {counts.deleted:,} deleted {noun}s"


class _Towers:
    """A generation's towers, loaded when they are first needed: torch takes two seconds."""

    def __init__(self, stored: registry.StoredTowers) -> None:
        self._stored = stored

    @cached_property
    def loaded(self) -> Towers:
        from tterec.towers import Towers

        return Towers.load(self._stored.weights, self._stored.features, self._stored.config)


class Generation:
    """A live generation with what embeds rows for it; made anew when the sources change."""

    def __init__(
        self, connection: Connection, number: int, before: Generation | None = None
    ) -> None:
        """`before` lends its towers, if they are the same. Raises SourceError where a column is
        not of the type that the towers know."""
        self.number = number
        self.live = differences.live_sources(connection, number)
        self._towers: _Towers = (
            before._towers
            if before is not None and before.number == number
            else _Towers(registry.towers(connection, number))
        )
        self._ranker_width = registry.ranker_width(connection, number)
        self._traits = Traits(connection, number)
        self._trait_names = self._traits.names

    def load(self) -> None:
        """Load the towers now, instead of at the first row."""
        _ = self._towers.loaded

    def refresh_items(self, connection: Connection, ids: Sequence[int]) -> Counts:
        """Embed these items as they are now, remove those that are gone; in this transaction."""
        locks.await_rows(connection, "items", ids)
        table, gone = item_updates.read(connection, "items", self.live, ids)
        new = 0
        if len(table):
            found = self._towers.loaded.embed_items(table)
            _check_finite(found.embeddings, found.histories)
            if self._ranker_width is not None:
                item_updates.write_evidence(
                    connection, self.number, self._ranker_width, self._traits, self._texts(table)
                )
            item_updates.write_vectors(
                connection, "history_vectors", self.number, table.ids, found.histories
            )
            new = item_updates.write_vectors(
                connection, "item_vectors", self.number, table.ids, found.embeddings
            )
            clusters.follow(connection, self.number, table.ids, found.embeddings)
            item_updates.keep_digests(connection, self.number, table)
        deleted = item_updates.delete(
            connection, self.number, gone, ranked=self._ranker_width is not None
        )
        return Counts(new, len(table) - new, deleted)

    def _texts(self, table: FeatureTable) -> dict[int, list[tuple[str, str]]]:
        from tterec.ranking.traits import normalised

        shared = [column for column in table.columns if column.name in self._trait_names]
        return {
            item: [(c.name, text) for c in shared for text in normalised(c.values[row])]
            for row, item in enumerate(table.ids.tolist())
        }

    def recount(self, connection: Connection, ids: Sequence[int]) -> None:
        """Count again how popular these items are; in this transaction."""
        locks.await_rows(connection, "items", ids)
        popularity.recount(connection, self.number, ids)

    def refresh_users(self, connection: Connection, ids: Sequence[int]) -> Counts:
        """Embed these users' profiles as they are now, forget those who are gone; in this
        transaction."""
        locks.await_rows(connection, "users", ids)
        table, absent = item_updates.read(connection, "users", self.live, ids)
        new = 0
        if len(table):
            profiles = self._towers.loaded.embed_users(table)
            _check_finite(profiles)
            user_updates.keep_digests(connection, self.number, table)
            new = item_updates.write_vectors(
                connection, "user_vectors", self.number, table.ids, profiles
            )
        gone = user_updates.without_row(connection, self.number, self.live, absent)
        return Counts(new, len(table) - new, user_updates.forget(connection, self.live, gone))


def update(database: Database, progress: ProgressCallback = ignore) -> Updated:
    """Bring the live generation up to date with its sources.

    New and changed items and users are embedded by its towers, those that are gone are removed,
    and a user who is gone is forgotten by every table. Readers are not held up; whatever stops it,
    the next one goes on from there. Raises NoActiveModel, SourceError, and Busy while another
    update runs.
    """
    with database.connect(autocommit=True, patient=True) as connection:
        schema.require_current(connection)
        locks.hold_update(connection)
        return follow(connection, progress)


def follow(
    connection: Connection,
    progress: ProgressCallback = ignore,
    before: Generation | None = None,
) -> Updated:
    """The update itself, by who holds the lock; `before` may lend its towers.

    `connection` must be in autocommit mode.
    """
    start = time.perf_counter()
    while True:
        number = registry.live(connection)
        if number is None:
            raise errors.NoActiveModel
        try:
            done = _bring_up_to_date(connection, Generation(connection, number, before), progress)
            if registry.live(connection) != number:
                raise Superseded
        except Superseded:
            progress(
                Progress("update", message=f"Generation {number} is no longer live; starting over.")
            )
            continue
        return replace(done, seconds=time.perf_counter() - start)


def _bring_up_to_date(
    connection: Connection, generation: Generation, progress: ProgressCallback
) -> Updated:
    number = generation.number
    queued = change_queue.covered(connection)
    differences.add_keys(connection, generation.live)

    def batches(stage: str, ids: list[int], work: Callable[..., T]) -> Iterator[T]:
        """What `work` returns for each batch of ids, done in a transaction of its own."""
        for start in range(0, len(ids), BATCH):
            part = ids[start : start + BATCH]
            with batch(connection, number) as transaction:
                done = work(connection, part)
                transaction.items = stage == "items"
            progress(Progress(f"update {stage}", start + len(part), len(ids)))
            yield done

    progress(Progress("compare items"))
    changed = differences.changed_items(connection, number, generation.live)
    items = sum(batches("items", changed, generation.refresh_items), Counts())
    recounted = popularity.changed(connection, number)
    deque(batches("popularity", recounted, generation.recount), maxlen=0)
    # The mean of all ratings, towards which every score is drawn, has moved with those.
    drifted = popularity.drifted(connection, number)
    deque(batches("popularity", drifted, generation.recount), maxlen=0)
    progress(Progress("compare users"))
    user_updates.drop_keys(connection, generation.live)
    unknown = user_updates.orphaned_keys(connection, generation.live)
    changed = differences.changed_users(connection, number, generation.live)
    changed = sorted({*changed, *unknown})
    users = sum(batches("users", changed, generation.refresh_users), Counts())
    change_queue.remove(connection, queued)
    return Updated(number, items, users, len(recounted), 0.0)


def _check_finite(*matrices: NDArray[Any]) -> None:
    if not all(np.isfinite(matrix).all() for matrix in matrices):
        raise errors.TrainingError(
            "the towers give vectors that are not finite for some new rows; train again: "
            "tterec train"
        )
