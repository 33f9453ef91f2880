"""How much of the exact answer an index finds, measured on real users."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from psycopg import sql

from tterec.database import vectors
from tterec.database.connection import Connection
from tterec.database.pgvector import extension_schema
from tterec.records import Progress, ProgressCallback, TrainedVectors, ignore
from tterec.store.vector_tables import table

# As many candidates as a second stage, or rules, look at with profit; shorter lists miss less.
K = 100
# Each costs about half as much again as the one before. The first that reaches WANTED serves.
LADDER = (100, 150, 220, 320, 480, 720, 1000)
WANTED = 0.99
WORRYING = 0.95
# Without users to measure with, the middle of the ladder.
UNMEASURED = 320

# Vectors are float32 and summed in another order: a tie is not a miss.
_TIE = 1e-5
_USERS_A_BLOCK = 32


@dataclass(frozen=True)
class Probe:
    """A real user: their vector, float (d,), and the items they may not get, int64 (n,)."""

    vector: NDArray[np.floating]
    seen: NDArray[np.int64]


@dataclass(frozen=True)
class Recall:
    """Recall@K of the index by ef_search, in the order tried, and the ef_search that serves.

    `short` is the share of users whose list ended early at that ef_search (they have seen
    nearly all that the scan may visit); serving scans exactly then.
    """

    curve: dict[int, float]
    ef_search: int
    users: int
    short: float

    def as_metrics(self) -> dict[str, Any]:
        """What the registry keeps."""
        return {
            "k": K,
            "users": self.users,
            "ef_search": self.ef_search,
            "recall": self.curve[self.ef_search],
            "short": self.short,
            "curve": {str(ef): value for ef, value in self.curve.items()},
        }


def measure(
    connection: Connection,
    generation: int,
    trained: TrainedVectors,
    probes: Sequence[Probe],
    progress: ProgressCallback = ignore,
) -> Recall | None:
    """Climb the ladder until recall@K is WANTED; None without probes or items.

    Each user's list is queried as it will be served: nearest first, what they have seen left
    out by the scan itself, which goes on until K are found. Who has seen most of what is near by
    is served by the other index.
    """
    # Where all have, they are still better than none.
    probes = [probe for probe in probes if not _seen_most(connection, probe)] or probes
    if not probes or not len(trained.item_ids):
        return None
    exact = _exact(trained, probes)
    curve: dict[int, float] = {}
    shares: dict[int, float] = {}
    with connection.transaction():
        schema = extension_schema(connection)
        _load_library(connection, schema)
        query = _query(schema, generation)
        for ef_search in LADDER:
            found, short = [], 0
            for number, (probe, (threshold, wanted)) in enumerate(zip(probes, exact, strict=True)):
                scores = _scores(connection, query, probe, ef_search)
                if len(scores) < wanted:
                    short += 1  # served by an exact scan
                elif wanted:
                    found.append((scores >= threshold).sum() / wanted)
                progress(Progress(f"recall at ef_search {ef_search}", number + 1, len(probes)))
            curve[ef_search] = round(float(np.mean(found)), 4) if found else 1.0
            shares[ef_search] = short / len(probes)
            if curve[ef_search] >= WANTED:
                break
        connection.execute("SET LOCAL enable_sort TO DEFAULT")
    # Where none reaches it, more ef_search is still better.
    best = max(curve, key=lambda ef_search: (curve[ef_search], -ef_search))
    if curve[best] < WORRYING:
        progress(
            Progress(
                "recall",
                message=f"The index finds {curve[best]:.1%} of the exact first {K} books, even at "
                f"ef_search {best}: some lists will miss some of them.",
            )
        )
    return Recall(curve=curve, ef_search=best, users=len(probes), short=shares[best])


def _seen_most(connection: Connection, probe: Probe) -> bool:
    asked = connection.execute("SELECT tterec.met_most(%s, %s)", (len(probe.seen), K))
    return asked.fetchone() == (True,)


def _exact(trained: TrainedVectors, probes: Sequence[Probe]) -> list[tuple[float, int]]:
    """Each user's K-th best score among the items they may get, and how many are wanted.

    The score is a little lower than it is, so that a tie is not a miss.
    """
    order = np.argsort(trained.item_ids)
    ids = trained.item_ids[order]
    result: list[tuple[float, int]] = []
    for start in range(0, len(probes), _USERS_A_BLOCK):
        block = probes[start : start + _USERS_A_BLOCK]
        users = np.stack([probe.vector for probe in block]).astype(np.float32)
        scores = users @ trained.item_embeddings.T  # (users, items)
        for probe, row in zip(block, scores, strict=True):
            places = np.searchsorted(ids, probe.seen).clip(max=len(ids) - 1)
            row[order[places[ids[places] == probe.seen]]] = -np.inf
            wanted = min(K, int(np.isfinite(row).sum()))
            kth = float(np.partition(row, -wanted)[-wanted]) if wanted else 0.0
            result.append((kth - _TIE * max(1.0, abs(kth)), wanted))
    return result


def _load_library(connection: Connection, schema: sql.Identifier) -> None:
    # The settings exist once the library is loaded.
    connection.execute(sql.SQL("SELECT '[1]'::{}.vector").format(schema))
    connection.execute(
        "SELECT set_config('hnsw.iterative_scan', 'strict_order', true),"
        " set_config('enable_sort', 'off', true)"
    )


def _query(schema: sql.Identifier, generation: int) -> sql.Composed:
    """The scores of the K items that the index finds, without those seen."""
    return sql.SQL(
        "SELECT -(embedding OPERATOR({schema}.<#>) %(vector)s::{schema}.vector) FROM {table}"
        " WHERE item_id NOT IN (SELECT unnest(%(seen)s::bigint[]))"
        " ORDER BY embedding OPERATOR({schema}.<#>) %(vector)s::{schema}.vector LIMIT {k}"
    ).format(schema=schema, table=table("item_vectors", generation), k=sql.Literal(K))


def _scores(
    connection: Connection, query: sql.Composed, probe: Probe, ef_search: int
) -> NDArray[np.float64]:
    connection.execute(
        "SELECT set_config('hnsw.ef_search', tterec.search_width(%s, %s, %s)::text, true)",
        (ef_search, K, len(probe.seen)),
    )
    rows = connection.execute(
        query,
        {"vector": vectors.to_text(probe.vector), "seen": probe.seen},
    ).fetchall()
    return np.array([row[0] for row in rows], dtype=np.float64)
