"""What a generation knows of the rows that it was made from: their digests, those that it was
validated by, and items' traits."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tterec import grouping
from tterec.database import vectors
from tterec.database.connection import Connection
from tterec.records import Interactions, Ranker
from tterec.store.reading import TrainingData

TABLES = ("item_state", "user_state", "held_out", "item_traits")

_ROWS_A_CHUNK = 65_536


def keep_digests(connection: Connection, generation: int, data: TrainingData) -> None:
    """Store the digests of the rows that a generation is trained from.

    Users who are only in the interactions have one of zeros: it has learned from them, too.
    """
    items, users = data.items, data.users
    if items.digests is None or users.digests is None:
        return
    of_items = "item_state (generation, item_id, digest)"
    _copy(connection, of_items, generation, (items.ids, items.digests))
    interacting = data.interactions.user_ids  # ordered
    others = np.setdiff1d(interacting[grouping.starts(interacting)], users.ids)
    everybody = np.concatenate([users.ids, others])
    digests = np.concatenate([users.digests, np.zeros((len(others), 16), dtype=np.uint8)])
    of_users = "user_state (generation, user_id, digest, learned)"
    _copy(connection, of_users, generation, (everybody, digests))


def _copy(
    connection: Connection,
    table: str,
    generation: int,
    rows_of: tuple[NDArray[np.int64], NDArray[np.uint8]],
) -> None:
    ids, digests = rows_of
    learned = "learned" in table
    fields: list[tuple[str, str] | tuple[str, str, tuple[int]]] = [
        ("fields", ">i2"),
        ("generation_bytes", ">i4"),
        ("generation", ">i4"),
        ("id_bytes", ">i4"),
        ("id", ">i8"),
        ("digest_bytes", ">i4"),
        ("digest", "u1", (16,)),
    ]
    if learned:
        fields += [("learned_bytes", ">i4"), ("learned", "u1")]
    layout = np.dtype(fields)
    statement = f"COPY tterec.{table} FROM STDIN (FORMAT binary)".encode()
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.write(vectors.SIGNATURE)
        for start in range(0, len(ids), _ROWS_A_CHUNK):
            part = slice(start, start + _ROWS_A_CHUNK)
            rows = np.empty(len(ids[part]), dtype=layout)
            rows["fields"] = 4 if learned else 3
            rows["generation_bytes"], rows["generation"] = 4, generation
            rows["id_bytes"], rows["id"] = 8, ids[part]
            rows["digest_bytes"], rows["digest"] = 16, digests[part]
            if learned:
                rows["learned_bytes"], rows["learned"] = 1, 1
            copy.write(rows.tobytes())
        copy.write(vectors.TRAILER)


def keep_held_out(connection: Connection, generation: int, validation: Interactions) -> None:
    """Store which interactions a generation did not learn from."""
    connection.execute(
        "INSERT INTO tterec.held_out (generation, user_id, item_id)"
        " SELECT DISTINCT %s::int, user_id, item_id"
        " FROM unnest(%s::bigint[], %s::bigint[]) AS g (user_id, item_id)",
        (generation, validation.user_ids, validation.item_ids),
    )


def keep_traits(connection: Connection, generation: int, ranker: Ranker) -> None:
    """Store where each shared value stands in the sparse vectors of evidence, and its weight."""
    if not ranker.trait_values:
        return
    first = len(ranker.item_ids) + 1
    statement = (
        "COPY tterec.item_traits (generation, name, value_md5, place, weight)"
        " FROM STDIN (FORMAT binary)"
    )
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        copy.write(vectors.SIGNATURE)
        for place, (name, text, weight) in enumerate(ranker.trait_values, start=first):
            encoded = name.encode()
            copy.write(
                struct.pack(">hiii", 5, 4, generation, len(encoded))
                + encoded
                + struct.pack(">i16sii", 16, value_digest(text), 4, place)
                + struct.pack(">if", 4, weight)
            )
        copy.write(vectors.TRAILER)


def value_digest(text: str) -> bytes:
    """The 16 bytes by which a value of a feature is found again."""
    return hashlib.md5(text.encode(), usedforsecurity=False).digest()


class Traits:
    """A generation's shared values, as far as they were asked for."""

    def __init__(self, connection: Connection, generation: int) -> None:
        self._connection, self._generation = connection, generation
        row = connection.execute(
            "SELECT min(place) FROM tterec.item_traits WHERE generation = %s", (generation,)
        ).fetchone()
        self.first: int | None = row[0] if row else None
        """The first place of a trait, from 1; those before it are items'. None: none is known."""

    @property
    def names(self) -> set[str]:
        """The features whose values count."""
        rows = self._connection.execute(
            "SELECT DISTINCT name FROM tterec.item_traits WHERE generation = %s",
            (self._generation,),
        ).fetchall()
        return {str(name) for (name,) in rows}

    def find(self, values: Sequence[tuple[str, str]]) -> dict[tuple[str, str], tuple[int, float]]:
        """Place and weight of each of these (name, normalised text) that is shared."""
        asked = {(name, value_digest(text)): (name, text) for name, text in values}
        rows = self._connection.execute(
            "SELECT t.name, decode(replace(t.value_md5::text, '-', ''), 'hex'), t.place, t.weight"
            " FROM unnest(%s::text[], %s::uuid[]) AS asked (name, value_md5)"
            " JOIN tterec.item_traits t ON t.generation = %s AND t.name = asked.name"
            " AND t.value_md5 = asked.value_md5",
            (
                [name for name, _ in asked],
                [digest.hex() for _, digest in asked],
                self._generation,
            ),
        ).fetchall()
        return {asked[name, bytes(digest)]: (place, weight) for name, digest, place, weight in rows}
