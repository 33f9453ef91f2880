"""The verb `update`: the live generation follows its sources, without training."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
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
    keys,
    locks,
    popularity,
    registry,
    shops,
    update_log,
    user_lists,
    user_updates,
)
from tterec.store.batches import Superseded, batch, sifted
from tterec.store.item_updates import Counts
from tterec.store.stages import stage
from tterec.store.state_tables import Traits

if TYPE_CHECKING:
    from tterec.towers import Towers

T = TypeVar("T")

BATCH = 500
"""Rows a transaction. A worker that wants one of them waits for no more than these."""


_UNREADABLE = (
    "The sources of generation {} cannot be read: whom it has to forget is not known until they"
    " are there again, or tterec models prune removes it."
)


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
        self.refused: dict[str, BaseException] = {}  # by row, why it could not be embedded

    def load(self) -> None:
        """Load the towers now, instead of at the first row."""
        _ = self._towers.loaded

    def refresh_items(self, connection: Connection, ids: Sequence[int]) -> Counts:
        """Embed these items as they are now, remove those that are gone; in this transaction.

        A row that cannot be embedded stays as it was, and is noted in `refused`.
        """
        locks.await_rows(connection, "items", ids)
        return self._sifted(connection, self.live.item, ids, partial(self._items, connection))

    def _sifted(
        self,
        connection: Connection,
        id_: keys.Id,
        ids: Sequence[int],
        work: Callable[[Sequence[int]], Counts],
    ) -> Counts:
        done, refused = sifted(connection, ids, work)
        for row in refused:
            self.refused[f"{id_.column} {id_.shown(connection, row.id)}"] = row.why
        return sum(done, Counts())

    def _items(self, connection: Connection, ids: Sequence[int]) -> Counts:
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
        transaction. As with `refresh_items`, rows may be refused."""
        locks.await_rows(connection, "users", ids)
        locks.await_lists(connection)
        user_lists.drop(connection, [self.number], ids)
        return self._sifted(connection, self.live.user, ids, partial(self._users, connection))

    def forget_interactions(
        self, connection: Connection, items: Sequence[int] | None = None
    ) -> None:
        """Let nothing be validated by what was deleted, of these items or at all; in this
        transaction."""
        user_updates.forget_interactions(connection, self.live, items)

    def _users(self, connection: Connection, ids: Sequence[int]) -> Counts:
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
    the next one goes on from there. Raises NoActiveModel, SourceError, RowsRefused, once
    everything else is done, where rows cannot be embedded, and Busy while another update runs.
    """
    with database.of("update").connect(autocommit=True, patient=True) as connection:
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
            generation = Generation(connection, number, before)
            done = _bring_up_to_date(connection, generation, progress)
            if registry.live(connection) != number:
                raise Superseded
        except Superseded:
            progress(
                Progress("update", message=f"Generation {number} is no longer live; starting over.")
            )
            continue
        seconds = time.perf_counter() - start
        update_log.keep(connection, number, seconds)
        raise_refused(generation.refused)
        return replace(done, seconds=seconds)


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
                if stage == "items":
                    transaction.items(part)
                done = work(connection, part)
            progress(Progress(f"update {stage}", start + len(part), len(ids)))
            yield done

    with stage(connection, "compare items", progress):
        changed = differences.changed_items(connection, number, generation.live)
    with stage(connection, "update items", progress):
        items = sum(batches("items", changed, generation.refresh_items), Counts())
    with stage(connection, "count popularity", progress):
        recounted = popularity.changed(connection, number)
        deque(batches("popularity", recounted, generation.recount), maxlen=0)
        # The mean of all ratings, towards which every score is drawn, has moved with those.
        drifted = popularity.drifted(connection, number)
        deque(batches("popularity", drifted, generation.recount), maxlen=0)
    with stage(connection, "compare users", progress):
        changed = differences.changed_users(connection, number, generation.live)
    with stage(connection, "update users", progress):
        users = sum(batches("users", changed, generation.refresh_users), Counts())
    with stage(connection, "forget users", progress):
        with batch(connection, number):
            generation.forget_interactions(connection)
        for shop in shops.other_shops(connection, generation.live):
            if shop.user is None:
                names = ", ".join(map(str, shop.generations))
                progress(Progress("forget users", message=_UNREADABLE.format(names)))
            departed = shops.departed(connection, shop)
            deque(batches("users of other shops", departed, partial(_forget_in, shop)), maxlen=0)
        shops.drop_keys(connection, generation.live)
    change_queue.remove(connection, queued)
    return Updated(number, items, users, len(recounted), 0.0)


def raise_refused(refused: dict[str, BaseException]) -> None:
    """Raise RowsRefused, naming the first, if there are any."""
    if refused:
        row, why = next(iter(refused.items()))
        rows = "one row" if len(refused) == 1 else f"{len(refused):,} rows"
        raise errors.RowsRefused(
            f"all is up to date but {rows} that cannot be embedded, such as {row}: {why}"
        ) from why


def _forget_in(shop: shops.Shop, connection: Connection, ids: Sequence[int]) -> None:
    assert shop.user is not None  # else nobody is known to have left
    locks.await_lists(connection)
    user_updates.forget_in(connection, shop.generations, shop.user, ids)


def _check_finite(*matrices: NDArray[Any]) -> None:
    if not all(np.isfinite(matrix).all() for matrix in matrices):
        raise errors.TrainingError(
            "the towers give vectors that are not finite for some new rows; train again: "
            "tterec train"
        )
