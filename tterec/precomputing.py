"""The verb `precompute`: each active user's list, stored with the live generation."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tterec import errors
from tterec.bulk_lists import Bulk
from tterec.database import schema
from tterec.database.connection import Connection, Database
from tterec.records import Progress, ProgressCallback, Recommendation, ignore
from tterec.retrieval.choice import Indexes
from tterec.store import list_changes, locks, registry, snapshots, user_lists
from tterec.store.batches import Superseded
from tterec.store.snapshots import in_snapshot
from tterec.store.stages import stage
from tterec.store.user_lists import Outdated, UserList

T = TypeVar("T")

TOP = 200
"""How many books a list has: with 200, a row is 4 kB, and a page holds two."""
DEEPEST = 1000
BATCH = 256


@dataclass(frozen=True)
class Precomputed:
    """How many lists of a generation were made, and how many were still right, in how many
    seconds."""

    generation: int
    made: int
    kept: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"Generation {self.generation}: {self.made:,} list{'s' * (self.made != 1)} made, "
            f"{self.kept:,} still right; {self.seconds:,.1f} s"
        )


def precompute(
    database: Database, *, top: int = TOP, progress: ProgressCallback = ignore
) -> Precomputed:
    """Make the list of each user who has interactions or a profile, where it is missing or may be
    wrong by now.

    A list has `top` books, but no more than the second stage looks at. What is written is used at
    once, and stays when this is stopped. Raises NoActiveModel, InvalidArgument, and Busy while
    another process does the same.
    """
    if not 1 <= top <= DEEPEST:
        raise errors.InvalidArgument(f"--top {top} is not between 1 and {DEEPEST:,}")
    start = time.perf_counter()
    with database.of("precompute").connect(autocommit=True, patient=True) as connection:
        locks.hold_precompute(connection)
        schema.require_current(connection)  # an upgrade waits for who makes lists, or keeps it out
        snapshots.prepare(connection)
        while True:
            number = registry.live(connection)
            if number is None:
                raise errors.NoActiveModel
            try:
                made, kept = _Precompute(connection, number, top, progress).run()
            except Superseded:
                progress(
                    Progress(
                        "precompute",
                        message=f"Generation {number} is no longer live; starting over.",
                    )
                )
                continue
            return Precomputed(number, made, kept, time.perf_counter() - start)


def users_at_once(bulk: Bulk, k: int) -> int:
    """How many lists are made in one transaction: who changes users waits for it."""
    return min(bulk.users_at_once(k), BATCH)


class _Precompute:
    """The lists of one generation."""

    def __init__(
        self, connection: Connection, generation: int, top: int, progress: ProgressCallback
    ) -> None:
        self._connection, self._generation = connection, generation
        self._top, self._progress = top, progress

    def run(self) -> tuple[int, int]:
        """How many lists it made, and how many were right. Raises Superseded."""
        connection, number = self._connection, self._generation
        self._do(lambda: user_lists.open_set(connection, number, self._top))
        with stage(connection, "read vectors", self._progress):
            bulk, change, absent = self._do(
                lambda: (
                    Bulk(connection, True, Indexes()),
                    user_lists.last_change(connection, number),
                    user_lists.absent_items(connection, number),
                )
            )
            self._do(lambda: list_changes.note_absent(connection, number, absent))
        with stage(connection, "compare lists", self._progress):
            out, touched = self._do(lambda: self._compare(change))
            users = sorted({*out.to_make, *touched})
        with stage(connection, "make lists", self._progress):
            self._progress(Progress("make lists", 0, len(users)))
            at_once = users_at_once(bulk, self._depth(bulk))
            for start in range(0, len(users), at_once):
                part = users[start : start + at_once]
                self._make(bulk, change, part)
                self._progress(Progress("make lists", start + len(part), len(users)))
        with locks.making_lists(connection):
            self._do(lambda: user_lists.drop(connection, [number], out.to_drop))
        kept = self._do(lambda: user_lists.count(connection, number)) - len(users)
        self._do(lambda: user_lists.finish(connection, number, change))
        return len(users), kept

    def _compare(self, change: int) -> tuple[Outdated, set[int]]:
        """Whose lists are out of date by what they have met, and by changes to items.

        Of one moment: else a rating could be there for the one and away for the other.
        """
        changes = list_changes.pending(self._connection, self._generation, change)
        return (
            user_lists.outdated(self._connection, self._generation),
            user_lists.touched(self._connection, self._generation, changes),
        )

    def _make(self, bulk: Bulk, change: int, users: Sequence[int]) -> None:
        """Make and write these users' lists, all in one snapshot."""

        def make() -> None:
            made = bulk.recommend(self._connection, users, self._depth(bulk))
            lists = [
                self._as_list(bulk, user, lines) for user, lines in zip(users, made, strict=True)
            ]
            user_lists.write(self._connection, self._generation, change, lists)

        with locks.making_lists(self._connection):
            self._do(make)

    def _do(self, work: Callable[[], T]) -> T:
        return in_snapshot(self._connection, self._generation, work)

    def _depth(self, bulk: Bulk) -> int:
        """How many books are asked for: with a second stage as many as it looks at, as then it
        looks at the same ones for every shorter list."""
        ranking = bulk.model.ranking if bulk.model else None
        return self._top if ranking is None else ranking.candidates

    def _as_list(self, bulk: Bulk, user: int, lines: list[Recommendation]) -> UserList:
        known = lines if lines and lines[0].source != "popular" else []
        ranked = bulk.model is not None and bulk.model.ranking is not None
        two_stages = ranked and bool(known) and known[0].source == "history"
        # The least similar of so many is no nearer than the last one that was looked at.
        nearest = float("-inf")
        if known and len(known) == self._depth(bulk):
            shown = known if two_stages else known[: self._top]
            nearest = min(line.similarity or 0.0 for line in shown)
        return UserList(user, known[: self._top], nearest, two_stages)
