"""The verb `worker`: the live generation follows its sources as they change.

Triggers queue what changes in `tterec.changes` and wake whoever listens. A worker takes some rows
of the queue, locks the ids that they name, reads these anew, embeds and writes them, and deletes
the rows, all in one transaction: a worker that dies leaves the queue as it was, and of two with
the same id, the second reads what the first could not have seen yet.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from tterec import errors
from tterec.database import schema
from tterec.database.connection import Connection, Database
from tterec.records import Progress, ProgressCallback, ignore
from tterec.store import base_tables, change_queue, locks, notices, registry
from tterec.store.batches import Superseded, batch
from tterec.store.item_updates import Counts
from tterec.store.stages import stage
from tterec.timings import Timings
from tterec.updating import Generation, follow, raise_refused

BATCH = 100
"""Rows of the queue that are taken at once: others wait for no more than these."""
POLL_SECONDS = 5.0
"""How often the queue is looked at when nothing wakes the worker: ratings do not."""
_QUEUE = "queue"
_LONGEST_WAIT = 30.0
_REST = 10
"""Where changes are not noted, a worker rests this many times as long as a comparison took."""


@dataclass
class Worked:
    """What a worker has done: rows of items and users, and updates of everything.

    `left`: rows of the queue that it had to leave, as another process has them.
    """

    items: int = 0
    users: int = 0
    updates: int = 0
    left: int = 0

    def __str__(self) -> str:
        done = (
            f"{self.items:,} item{'s' * (self.items != 1)}, "
            f"{self.users:,} user{'s' * (self.users != 1)}, "
            f"{self.updates:,} update{'s' * (self.updates != 1)} of everything"
        )
        if not self.left:
            return done
        return (
            f"{done}; {self.left:,} row{'s' * (self.left != 1)} left in the queue: another worker"
            " or update has them, or they have just come"
        )


def work(
    database: Database,
    *,
    once: bool = False,
    poll: float = POLL_SECONDS,
    progress: ProgressCallback = ignore,
) -> Worked:
    """Empty the queue, and go on for ever; with `once`, until it is empty.

    When the database goes away, or refuses a batch, it is tried again, later and later. With
    `once`, what goes wrong is raised instead, and so is NoActiveModel. It ends by an exception
    (KeyboardInterrupt): what was not committed stays in the queue. Raises InvalidArgument unless
    `poll`, in seconds, is above 0.
    """
    if not poll > 0:  # nor is NaN, which is no time to sleep for
        raise errors.InvalidArgument(f"poll = {poll} is out of range; choose a number above 0")
    database = database.of("worker")
    done, wait = Worked(), 1.0

    def say(text: str) -> None:
        progress(Progress("worker", message=text))

    while True:
        start = time.monotonic()
        try:
            with database.connect(autocommit=True, patient=True) as connection:
                schema.require_current(connection)
                worker = _Worker(connection, done, progress)
                if once:
                    worker.catch_up()
                    raise_refused(worker.refused)
                    done.left = change_queue.size(connection)
                    return done
                worker.run(poll)
        except errors.TterecError as error:
            if once or isinstance(error, errors.SchemaOutdated):
                raise
            if time.monotonic() - start > _LONGEST_WAIT:
                wait = 1.0
            what = str(error).removesuffix("; try again").removesuffix(" and try again")
            say(f"{what}; trying again in {wait:.0f} s")
            time.sleep(wait)
            wait = min(2 * wait, _LONGEST_WAIT)


class _Worker:
    """One connection's work."""

    def __init__(self, connection: Connection, done: Worked, progress: ProgressCallback) -> None:
        self._connection, self._done, self._progress = connection, done, progress
        self._generation: Generation | None = None
        self._stale = False  # the sources may return other columns now
        self._noted = True
        self._compared = 0.0  # seconds that the last comparison of everything took
        self.refused: dict[str, BaseException] = {}  # rows that could not be embedded, and why

    def run(self, poll: float) -> None:
        """Work until the connection breaks."""
        notices.listen(self._connection)
        told = None
        while True:
            schema.require_current(self._connection)  # who upgrades need not know of workers
            if registry.live(self._connection) is None:
                state = "No generation is live; waiting for: tterec train"
            else:
                self._current().load()  # before somebody waits for it
                state = "Following the changes."
            if state != told:
                self._say(state)
                told = state
            if self._generation is not None:
                self.catch_up()
            rest = poll if self._noted else max(poll, _REST * self._compared)
            notices.wait(self._connection, rest)

    def _say(self, text: str) -> None:
        self._progress(Progress("worker", message=text))

    def catch_up(self) -> None:
        """Do what is queued, and compare everything where changes are not noted."""
        self.refused.clear()
        self._empty()
        if not self._noted:
            self._follow_everything()

    def _empty(self) -> None:
        """Do what is queued, until nothing is that this worker may take.

        Tells how far it is where that is more than a batch, and what the stages took together.
        """
        timings = Timings(ignore)
        done = total = 0
        while True:
            schema.require_current(self._connection)  # a long queue may outlive an upgrade
            generation = self._current()
            if self._follow_everything(if_asked=True):
                continue
            if generation.live.default:
                taken = self._batch(generation, timings)
                if taken is None:
                    continue
                if not taken:
                    break
                done += taken
                if taken == BATCH and not total:
                    total = done + change_queue.size(self._connection)
                if total > BATCH:
                    self._progress(Progress(_QUEUE, done, max(total, done)))
            # The ids that the triggers of tterec's own tables note need not be this shop's.
            elif not (change_queue.names_any(self._connection) and self._follow_everything()):
                break
        for name, seconds in timings.seconds.items():
            self._progress(Progress(name, seconds=seconds))
        if total > BATCH:
            self._progress(Progress(_QUEUE, done, done))

    def _current(self) -> Generation:
        """The live generation. Where it is new, its sources are watched from now on."""
        number = registry.live(self._connection)
        if number is None:
            raise errors.NoActiveModel
        before = self._generation
        if before is None or self._stale or before.number != number:
            self._generation = Generation(self._connection, number, before)
            self._stale = False
            if not self._generation.live.default:
                self._watch()
        assert self._generation is not None
        return self._generation

    def _watch(self) -> None:
        watched = base_tables.watch(self._connection)
        if watched.unnoted and self._noted:
            self._say(
                f"The changes of {', '.join(watched.unnoted)} cannot be noted by this role; "
                "everything is compared from time to time instead. A table's owner may change "
                "that: GRANT TRIGGER ON it TO this role."
            )
        self._noted = not watched.unnoted

    def _batch(self, generation: Generation, timings: Timings) -> int | None:
        """Do one batch of the queue; how many rows it was, None where it has to be done again."""
        connection = self._connection
        try:
            with batch(connection, generation.number) as transaction:
                taken = change_queue.take(connection, BATCH)
                if not taken.change_ids:
                    return 0
                touched = sorted(taken.items | taken.rated)
                locks.await_rows(connection, "items", touched)
                if taken.items:
                    with stage(connection, "update items", timings):
                        transaction.items(sorted(taken.items))
                        generation.refresh_items(connection, sorted(taken.items))
                if touched:
                    with stage(connection, "count popularity", timings):
                        generation.recount(connection, touched)
                if taken.users:
                    with stage(connection, "update users", timings):
                        generation.refresh_users(connection, sorted(taken.users))
                if taken.rated:
                    generation.forget_interactions(connection, sorted(taken.rated))
                change_queue.remove(connection, taken.change_ids)
        except Superseded:
            return None
        self._done.items += len(taken.items)
        self._done.users += len(taken.users)
        for row, why in generation.refused.items():
            self._say(f"{row} cannot be embedded and stays as it was: {why}")
        self.refused |= generation.refused
        generation.refused.clear()
        return len(taken.change_ids)

    def _follow_everything(self, *, if_asked: bool = False) -> bool:
        """Update everything, unless another process does, or with `if_asked` nobody asks for it;
        whether it was done."""
        if not locks.try_update(self._connection):
            return False
        start, said = time.monotonic(), ""
        try:
            if if_asked and not change_queue.wants_everything(self._connection):
                return False
            done = follow(self._connection, self._progress, before=self._generation)
            if (done.items, done.users) != (Counts(), Counts()):
                said = str(done)
        except errors.RowsRefused as error:
            self.refused["everything"] = error
            said = str(error)
        finally:
            locks.release_update(self._connection)
        self._compared = time.monotonic() - start
        self._stale = True
        self._done.updates += 1
        if said:
            self._say(said)
        return True
