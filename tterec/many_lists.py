"""Lists of many users, one after the other, made batch by batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from tterec import bulk_lists
from tterec.bulk_lists import BulkLists
from tterec.database.connection import Connection
from tterec.records import Progress, ProgressCallback, Recommendation, User
from tterec.retrieval import pgvector
from tterec.retrieval import users as user_rows
from tterec.retrieval.session import Session
from tterec.timings import timed

if TYPE_CHECKING:
    from tterec.ranking.rules import Rules

_MAKE = "make lists"


def one_by_one(
    session: Session,
    held: Callable[[Connection], BulkLists],
    users: Iterable[User] | None,
    k: int,
    *,
    rules: Rules | None,
    progress: ProgressCallback,
) -> Iterator[tuple[User, list[Recommendation]]]:
    """Each user, or everybody, with their list.

    `held` reads what has the lists; it is asked again where the generation that it read is pruned.
    """
    if users is None:
        users = session.ask(user_rows.all_users)
    total = len(users) if isinstance(users, Sequence) else None
    remaining, done = iter(users), 0
    rules = session.ask(partial(bulk_lists.spelled, rules=rules))
    with timed(progress, "read vectors"):
        bulk = session.ask(held, "read vectors")
    at_once = bulk.users_at_once(bulk_lists.depth(rules, k))
    seconds = 0.0  # without what is done with the lists in between
    progress(Progress(_MAKE, 0, total))
    while batch := list(islice(remaining, at_once)):

        def work(connection: Connection, batch: list[User] = batch) -> list[list[Recommendation]]:
            nonlocal bulk
            if bulk.model and not pgvector.still_there(connection, bulk.model):
                bulk = held(connection)
            if rules is None or not rules.on:
                return bulk.recommend(connection, batch, k)
            return bulk_lists.under_rules(connection, bulk, batch, k, rules)

        began = time.perf_counter()
        lists = session.ask(work, _MAKE)
        seconds += time.perf_counter() - began
        yield from zip(batch, lists, strict=True)
        done += len(batch)
        progress(Progress(_MAKE, done, total))
    progress(Progress(_MAKE, seconds=seconds))
