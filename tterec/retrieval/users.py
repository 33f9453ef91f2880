"""Users: who they are, and what they have met as of now."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from tterec.database.connection import Connection
from tterec.errors import InvalidArgument
from tterec.records import User
from tterec.retrieval.live_models import LiveModel
from tterec.retrieval.pgvector import NO_ITEMS, query, vectors_by_id

_NUMBER = re.compile(r"\s*[+-]?[0-9]{1,19}\s*", re.ASCII)
_BIGINT = range(-(2**63), 2**63)


@dataclass(frozen=True)
class History:
    """A user's interactions, the most telling first: int64 (n,), and float32 (n,) with NaN.

    What comes after the generation's max_history may be in no order, and without its rating.
    """

    item_ids: NDArray[np.int64]
    ratings: NDArray[np.float32]


NO_HISTORY = History(NO_ITEMS, np.zeros(0, np.float32))


def user_ids(connection: Connection, users: Sequence[User]) -> list[int | None]:
    """The id of each user, given by id or by name; None for a name that has none.

    In a shop with text ids a name is looked up, a uuid in whatever spelling; else it is the number
    that it spells.
    """
    users = named(users)
    names = [user for user in users if isinstance(user, str)]
    known: dict[str, int] = {}
    if names and text_ids(connection):
        known = dict(query(connection, "user_ids", names=names).fetchall())
    else:
        known = {name: int(name) for name in names if _NUMBER.fullmatch(name)}
    ids = [known.get(user) if isinstance(user, str) else _number(user) for user in users]
    return [i if i is not None and i in _BIGINT else None for i in ids]


def _number(user: int) -> int:
    try:
        number: int | None = int(user)
    except (TypeError, ValueError, OverflowError):
        number = None
    if number is None or number != user:  # 36.0 is a number that pandas made of 36
        raise InvalidArgument(
            f"user {user!r:.100} is neither an id nor a name; pass an int or a text"
        )
    return number


def named(users: Sequence[User | UUID]) -> list[User]:
    """The users, those given as a UUID by the name that it is in a shop's tables."""
    return [str(user) if isinstance(user, UUID) else user for user in users]


def text_ids(connection: Connection) -> bool:
    """Whether users have text ids in the interactions query."""
    return query(connection, "text_user_ids").fetchone() == (True,)


def all_users(connection: Connection) -> list[User]:
    """Every user, by the id that the shop's own queries use: ascending numbers, or texts."""
    names = [str(row[0]) for row in query(connection, "all_users").fetchall()]
    return list(names) if text_ids(connection) else sorted(map(int, names))


def histories(connection: Connection, users: Sequence[int]) -> dict[int, History]:
    """The whole history of each user who has one, as of now."""
    if len(users) == 1:  # looked up by the id, where many are cheaper to join
        row = query(connection, "history", user_id=users[0]).fetchone()
        assert row is not None
        return {users[0]: _history(*row)} if row[0] else {}
    return _by_owner(query(connection, "histories", user_ids=list(users)).fetchall())


def known(connection: Connection, users: Sequence[User]) -> list[tuple[int | None, History]]:
    """The id of each user, as `user_ids` has it, and their whole history as of now.

    In a shop with text ids who came after the last training or update has no id yet, but a
    history.
    """
    users = named(users)
    ids = user_ids(connection, users)
    by_id = histories(connection, [user_id for user_id in ids if user_id is not None])
    unnumbered = [user for user, i in zip(users, ids, strict=True) if i is None]
    names = list(dict.fromkeys(user for user in unnumbered if isinstance(user, str)))
    by_name: dict[str, History] = {}
    if names:
        rows = query(connection, "named_histories", names=names).fetchall()
        by_name = {name: _history(*found) for name, *found in rows}
    return [
        (i, by_name.get(str(user), NO_HISTORY) if i is None else by_id.get(i, NO_HISTORY))
        for user, i in zip(users, ids, strict=True)
    ]


def _history(items: list[int], ratings: list[float | None], met: list[int]) -> History:
    """From the most telling items with their ratings, and all that were met."""
    item_ids = np.array(items, dtype=np.int64)
    values = np.array(ratings, dtype=np.float32)  # None becomes NaN
    if len(met) > len(items):
        others = np.setdiff1d(np.array(met, dtype=np.int64), item_ids)
        item_ids = np.concatenate([item_ids, others])
        values = np.concatenate([values, np.full(len(others), np.nan, np.float32)])
    return History(item_ids, values)


def _by_owner(rows: Sequence[tuple[int, int, float | None]]) -> dict[int, History]:
    """Rows of user, item and rating, each user's together, as a history for each."""
    if not rows:
        return {}
    owners, items, ratings = zip(*rows, strict=True)
    item_ids = np.array(items, dtype=np.int64)
    values = np.array(ratings, dtype=np.float32)  # None becomes NaN
    starts = [0, *(n for n, pair in enumerate(pairwise(owners), start=1) if pair[0] != pair[1])]
    return {
        owners[start]: History(item_ids[start:end], values[start:end])
        for start, end in zip(starts, [*starts[1:], len(owners)], strict=True)
    }


def profiles(
    connection: Connection, model: LiveModel, users: Sequence[int]
) -> dict[int, NDArray[np.float32]]:
    """The profile vector (d,) of each user who has one."""
    found = query(connection, "profiles", model, user_ids=list(users)).fetchall()
    return vectors_by_id(found, model)
