"""FAISS: an index of a generation's item vectors in memory. The one file that speaks to FAISS."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from tterec.errors import TterecError
from tterec.retrieval.matrix import positions

Kind = Literal["flat", "hnsw", "ivfpq"]
KINDS: tuple[Kind, ...] = ("flat", "hnsw", "ivfpq")

# pgvector's 16 links an item, of which FAISS has twice as many in the lowest layer too.
_LINKS = 16
_EF_CONSTRUCTION = 64
# Of an item's vector, this many dimensions are one byte: at 64 dimensions 32 bytes instead of 256.
_DIMENSIONS_A_BYTE = 2
# FAISS asks for so many points a centroid; with fewer it trains, but complains on stderr.
_POINTS_A_CENTROID = 39
_MOST_POINTS_A_CENTROID = 64
_ITERATIONS = 10
# Builds share the machine with the Postgres that the vectors come from.
_MOST_BUILD_THREADS = 4


def require_faiss() -> Any:
    """The module. Raises TterecError with the command to type where FAISS is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # SWIG's types, on newer Pythons
            import faiss
    except ImportError as error:
        raise TterecError(
            "the FAISS indexes need faiss-cpu; run: pip install 'tterec[faiss]' "
            "(--index pgvector needs nothing)"
        ) from error
    return faiss


def settings(kind: Kind, count: int, dim: int) -> dict[str, int]:
    """How an index of `count` vectors of `dim` dimensions is built."""
    if kind == "hnsw":
        return {"links": _LINKS, "ef_construction": _EF_CONSTRUCTION}
    if kind == "ivfpq":
        dims = next(n for n in (_DIMENSIONS_A_BYTE, 3, 1) if dim % n == 0)
        lists = max(1, min(int(4 * count**0.5), count // _POINTS_A_CENTROID))
        bits = max(1, min(8, count.bit_length() - 1))  # no more centroids than vectors
        return {"lists": lists, "codes": dim // dims, "bits": bits}
    return {}


class FaissIndex:
    """Item vectors in an index of FAISS, by inner product.

    `effort` of a search is ef_search with `hnsw`, nprobe with `ivfpq`; `flat` has none.
    """

    def __init__(self, kind: Kind, item_ids: NDArray[np.int64], index: Any) -> None:
        """`item_ids` (n,) ascending, in the order in which `index` has their vectors."""
        self.kind = kind
        self.item_ids = item_ids
        self._index = index

    def __len__(self) -> int:
        return len(self.item_ids)

    @property
    def lists(self) -> int:
        """How many lists an `ivfpq` has, of which a search looks at `effort`; 1 of the others."""
        return int(self._index.nlist) if self.kind == "ivfpq" else 1

    @classmethod
    def build(
        cls, kind: Kind, item_ids: NDArray[np.int64], vectors: NDArray[np.float32]
    ) -> FaissIndex:
        """An index of vectors (n, d), whose item_ids (n,) ascend."""
        faiss = require_faiss()
        count, dim = vectors.shape
        made = settings(kind, count, dim)
        metric = faiss.METRIC_INNER_PRODUCT
        if kind == "hnsw":
            index = faiss.IndexHNSWFlat(dim, made["links"], metric)
            index.hnsw.efConstruction = made["ef_construction"]
        elif kind == "ivfpq":
            index = faiss.IndexIVFPQ(
                faiss.IndexFlatIP(dim), dim, made["lists"], made["codes"], made["bits"], metric
            )
            for training in (index.cp, index.pq.cp):
                training.min_points_per_centroid = 1
                training.max_points_per_centroid = _MOST_POINTS_A_CENTROID
                training.niter = _ITERATIONS
        else:
            index = faiss.IndexFlatIP(dim)
        with _threads(faiss, _build_threads(faiss)):
            if count and not index.is_trained:
                # Two centroids want two points.
                index.train(np.resize(vectors, (max(count, 2), dim)))
            if count:
                index.add(np.ascontiguousarray(vectors))
        return cls(kind, item_ids, index)

    @classmethod
    def from_bytes(
        cls, kind: Kind, item_ids: NDArray[np.int64], data: NDArray[np.uint8]
    ) -> FaissIndex:
        """The index that `to_bytes` wrote. Raises ValueError where it is something else."""
        faiss = require_faiss()
        try:
            index = faiss.deserialize_index(data)
        except RuntimeError as error:
            raise ValueError(f"not an index of FAISS: {error}") from error
        if index.ntotal != len(item_ids):
            raise ValueError(f"{index.ntotal} vectors of {len(item_ids)} items")
        return cls(kind, item_ids, index)

    def to_bytes(self) -> NDArray[np.uint8]:
        """The index without its item ids."""
        data: NDArray[np.uint8] = require_faiss().serialize_index(self._index)
        return data

    def nearest(
        self,
        vector: NDArray[np.floating],
        n: int,
        excluded: NDArray[np.int64],
        effort: int,
    ) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """At most n item ids with the greatest inner products with a vector (d,); both, best first.

        Without the `excluded` item ids. `flat` finds all of them, the others may find fewer.
        """
        rows = positions(self.item_ids, np.unique(excluded))[0]
        n = min(n, len(self) - len(rows))
        if n <= 0:
            return np.zeros(0, np.int64), np.zeros(0, np.float32)
        faiss = require_faiss()
        given: dict[str, Any] = {}
        if len(rows):
            given["sel"] = faiss.IDSelectorNot(faiss.IDSelectorBatch(rows.astype(np.int64)))
        if self.kind == "hnsw":
            given["efSearch"] = max(effort, n)
            parameters = faiss.SearchParametersHNSW(**given)
        elif self.kind == "ivfpq":
            given["nprobe"] = min(effort, self._index.nlist)
            parameters = faiss.SearchParametersIVF(**given)
        else:
            parameters = faiss.SearchParameters(**given)
        with _threads(faiss, 1):  # one vector: handing it to threads takes longer than the search
            scores, found = self._index.search(
                vector.astype(np.float32)[None, :], n, params=parameters
            )
        kept = found[0] >= 0
        return self.item_ids[found[0][kept]], scores[0][kept]


def _build_threads(faiss: Any) -> int:
    """No more than OMP_NUM_THREADS and the processors that this process may use."""
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return int(min(faiss.omp_get_max_threads(), mine or 1, _MOST_BUILD_THREADS))


@contextmanager
def _threads(faiss: Any, number: int) -> Iterator[None]:
    """So many threads of OpenMP, which torch may share, while the block runs."""
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(number)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
