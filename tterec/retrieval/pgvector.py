"""Everything that serving asks of Postgres; the queries are the files of `sql/retrieval/`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

import numpy as np
import psycopg
from numpy.typing import NDArray
from psycopg import errors as pg

from tterec import errors
from tterec.database import resources, vectors
from tterec.database.connection import Connection
from tterec.filters import Filters
from tterec.records import Recommendation
from tterec.retrieval.base import Candidates
from tterec.retrieval.live_models import LiveModel, model_of

T = TypeVar("T")

# In the files of queries: which items pass the filters.
_AMONG = re.compile(r"\s+AND \S+ @among@")

# An index scan of more than this costs what a scan of all vectors costs.
_MOST_BY_INDEX = 1000
# Scores that differ by less than their rounding rank by id, across the k-th place too.
_SPARE = 5


@dataclass(frozen=True)
class Among:
    """Which items pass the filters: the SQL that follows an item id in a condition, made by
    `tterec.among()`; and whether they are few, to be scored all."""

    condition: str
    few: bool


NO_ITEMS: NDArray[np.int64] = np.zeros(0, np.int64)


def prepare(connection: Connection) -> None:
    """Make every transaction of a connection a snapshot that writes nothing."""
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    connection.read_only = True


def in_snapshot(connection: Connection, work: Callable[[], T]) -> T:
    """What `work` returns, done in one transaction of its own.

    A generation may be pruned between reading its number and reading its tables; the work is
    then done once more, from the start, which finds the generation that is live by now.
    """
    try:
        with connection.transaction():
            return work()
    except pg.UndefinedTable:
        with connection.transaction():
            return work()


def live_model(connection: Connection) -> LiveModel | None:
    """The live generation; None before the first is promoted."""
    row = query(connection, "live_model").fetchone()
    if row is None:
        return None
    return model_of(row)


def still_there(connection: Connection, model: LiveModel) -> bool:
    """Whether a generation's tables were not pruned since it was read."""
    return query(connection, "still_there", model).fetchone() == (True,)


def history_vectors(
    connection: Connection, model: LiveModel, item_ids: NDArray[np.int64]
) -> dict[int, NDArray[np.float32]]:
    """The history vector (d,) of each item that has one."""
    found = query(connection, "history_vectors", model, item_ids=item_ids).fetchall()
    return vectors_by_id(found, model)


def all_history_vectors(
    connection: Connection, model: LiveModel
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Every item id (n,), ascending, and its history vector (n, d)."""
    return _copied(connection, "all_history_vectors", model)


def item_vector(
    connection: Connection, model: LiveModel, item_id: int
) -> NDArray[np.float32] | None:
    """An item's embedding (d,); None where it is newer than the generation."""
    row = query(connection, "item_vector", model, item_id=item_id).fetchone()
    return None if row is None else vectors.decode([row[0]], model.dim)[0]


def item_vectors(
    connection: Connection, model: LiveModel, item_ids: NDArray[np.int64]
) -> dict[int, NDArray[np.float32]]:
    """The embedding (d,) of each item that has one."""
    found = query(connection, "item_vectors", model, item_ids=item_ids).fetchall()
    return vectors_by_id(found, model)


def books(connection: Connection, isbns: Iterable[str]) -> list[tuple[str, int]]:
    """ISBN, as it was given, and item id of each that the catalogue knows."""
    return [(isbn, item) for isbn, item in query(connection, "books", isbns=list(isbns))]


def spelled_isbns(connection: Connection, isbns: Iterable[str]) -> list[str]:
    """ISBNs as the catalogue has them: where they are uuids, each has one spelling there."""
    row = query(connection, "spelled_isbns", isbns=list(isbns)).fetchone()
    assert row is not None
    return list(row[0])


def listed(
    connection: Connection, item_ids: NDArray[np.int64]
) -> dict[int, tuple[str | None, str | None]]:
    """ISBN and title of each item that is in the catalogue."""
    rows = query(connection, "listed", item_ids=item_ids).fetchall()
    return {item_id: (isbn, title) for item_id, isbn, title in rows}


def among(
    connection: Connection, filters: Filters | None, wanted: int | None = None
) -> Among | None:
    """Which items pass the filters, as of now; None where there are none.

    `wanted` is the length of the list, where no second stage makes it.
    Raises InvalidArgument where a filter needs a column that the items query does not return.
    """
    if filters is None or not filters.on:
        return None
    given = asdict(filters)
    for name in ("only_isbns", "without_isbns"):
        given[name] = None if given[name] is None else list(given[name])
    try:
        row = query(connection, "among", **given, wanted=wanted).fetchone()
    except (pg.UndefinedColumn, pg.DatatypeMismatch) as error:
        raise errors.InvalidArgument(error.diag.message_primary) from error
    return None if row is None else Among(*row)


def popular(
    connection: Connection,
    model: LiveModel | None,
    k: int,
    excluded: NDArray[np.int64],
    among: Among | None = None,
) -> list[Recommendation]:
    """The k most popular items that are not excluded; without a model, counted now."""
    given: dict[str, Any] = {"excluded": excluded, "k": k, "among": among}
    if model is None:
        rows = query(connection, "popular_now", **given).fetchall()
    else:
        rows = query(connection, "popular", generation=model.generation, **given).fetchall()
    return [
        Recommendation(place, item_id, isbn, title, round(score, 6), None, "popular")
        for place, (item_id, isbn, title, score) in enumerate(rows, start=1)
    ]


def catalogue(connection: Connection, model: LiveModel, among: Among | None = None) -> Candidates:
    """Every item of the catalogue that has a vector, by ascending id."""
    item_ids, matrix = _copied(connection, "catalogue_vectors", model, among)
    shown = query(connection, "catalogue", model, among=among).fetchall()
    return Candidates(item_ids, [row[0] for row in shown], [row[1] for row in shown], matrix)


@dataclass(frozen=True)
class VectorsState:
    """Which item vectors a snapshot sees: another state, perhaps other vectors.

    `system` and `database` name a database of the world; `made` is when the generation was
    begun, `mark` that of its last change in place, None before the first.
    """

    system: str
    database: int
    made: str
    mark: str | None


def vectors_state(connection: Connection, model: LiveModel) -> VectorsState:
    """The state of the live generation's item vectors, in one cheap query."""
    row = query(connection, "vectors_state", generation=model.generation).fetchone()
    if row is None:  # pragma: no cover (the registry never forgets a generation)
        raise LookupError(f"generation {model.generation} is not in the registry")
    return VectorsState(*row)


def all_item_vectors(
    connection: Connection, model: LiveModel
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Every item id (n,), ascending, and its vector (n, d), those outside the catalogue too."""
    return _copied(connection, "all_item_vectors", model)


def shown(connection: Connection, model: LiveModel, item_ids: NDArray[np.int64]) -> Candidates:
    """Those of some items that are in the catalogue, as it is now."""
    rows = query(connection, "shown", model, item_ids=item_ids).fetchall()
    return _candidates(rows, model)


def index_bytes(connection: Connection, model: LiveModel) -> int | None:
    """How large the generation's HNSW index is."""
    row = query(connection, "index_bytes", model).fetchone()
    return None if row is None else row[0]


class PgvectorIndex:
    """The live generation's indexes, of the items that pass filters where there are some.

    Use it inside one transaction.
    """

    def __init__(
        self, connection: Connection, model: LiveModel, among: Among | None = None
    ) -> None:
        self._connection = connection
        self._model = model
        self._among = among

    def candidates(
        self,
        user_vector: NDArray[np.floating],
        k: int,
        excluded: NDArray[np.int64],
    ) -> Candidates:
        """See CandidateIndex. A scan of all vectors follows where the index stops short."""
        given = self._given(user_vector, k, excluded)
        rows: list[Any] = []
        if k <= _MOST_BY_INDEX and not (self._among and self._among.few):
            set_up = query(
                self._connection,
                "index_settings",
                ef_search=self._model.ef_search,
                k=k,
                excluded=len(excluded),
                sorted=self._among is None,
            ).fetchone()
            assert set_up is not None
            way = "beyond" if self._among is None and set_up[-1] else "nearest"
            rows = query(self._connection, way, self._model, **given).fetchall()
            query(self._connection, "sort_again")
        if len(rows) < k:
            return self.scanned(user_vector, k, excluded)
        return _candidates(rows, self._model)

    def scanned(
        self, user_vector: NDArray[np.floating], k: int, excluded: NDArray[np.int64]
    ) -> Candidates:
        """The same by a scan of all vectors, which misses none."""
        given = self._given(user_vector, k, excluded)
        rows = query(self._connection, "nearest_exact", self._model, **given).fetchall()
        return _candidates(rows, self._model)

    def _given(
        self, user_vector: NDArray[np.floating], k: int, excluded: NDArray[np.int64]
    ) -> dict[str, Any]:
        return {
            "vector": vectors.to_text(user_vector),
            "excluded": np.sort(excluded),
            "k": k + _SPARE,
            "among": self._among,
        }


def _candidates(rows: Sequence[tuple[Any, ...]], model: LiveModel) -> Candidates:
    return Candidates(
        item_ids=np.array([row[0] for row in rows], dtype=np.int64),
        isbns=[row[1] for row in rows],
        titles=[row[2] for row in rows],
        vectors=vectors.decode([row[3] for row in rows], model.dim),
    )


def _text(name: str, model: LiveModel | None, among: Among | None) -> str:
    text = resources.sql(f"retrieval/{name}.sql")
    if model is not None:
        text = text.replace("@generation@", str(model.generation))
        text = text.replace("@extension@", model.extension)
    # Last: what is in a filter is no placeholder.
    return _AMONG.sub("", text) if among is None else text.replace("@among@", among.condition)


def query(
    connection: Connection,
    name: str,
    model: LiveModel | None = None,
    *,
    among: Among | None = None,
    **given: Any,
) -> psycopg.Cursor[tuple[Any, ...]]:
    """Send a file of `sql/retrieval/`, of a generation where it names one, with its parameters."""
    if among is not None:  # nor one of the driver's
        among = replace(among, condition=among.condition.replace("%", "%%"))
    # Binary results: a vector comes as its own bytes, and no number is printed and parsed.
    return connection.execute(_text(name, model, among).encode(), given, binary=True)


def _copied(
    connection: Connection, name: str, model: LiveModel, among: Among | None = None
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    statement = f"COPY ({_text(name, model, among)}) TO STDOUT (FORMAT binary)"
    with connection.cursor().copy(statement.encode()) as copy:
        return vectors.from_copy(copy, model.dim)


def vectors_by_id(
    rows: Sequence[tuple[Any, ...]], model: LiveModel
) -> dict[int, NDArray[np.float32]]:
    """Rows of id and vector as vectors (d,) by id."""
    matrix = vectors.decode([row[1] for row in rows], model.dim)
    return {row[0]: vector for row, vector in zip(rows, matrix, strict=True)}
