"""Candidate indexes of FAISS, in memory. The one file that speaks faiss.

Inner product throughout. What an index finds is scored again, exactly, by whoever asked.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tterec.errors import TterecError

KINDS = ("faiss-flat", "faiss-hnsw", "faiss-ivfpq")
MISSING = "FAISS is not installed; run: pip install 'tterec[faiss]', or leave out --index"

_HNSW_M = 16
_HNSW_EF_CONSTRUCTION = 128
_CODE_BITS = 8
"""Bits of a code of IVFPQ; each stands for two dimensions."""
_TRAINING_POINTS = 39
"""FAISS warns where a centroid has fewer."""
_LEAST_QUANTISED = 1000
"""With fewer items IVFPQ has nothing to learn from, and they are searched one by one."""
_RERANKED = 8
"""IVFPQ's scores are rough: so many times the number wanted are scored again, exactly."""


@dataclass(frozen=True)
class FaissIndex:
    """An index over items' vectors: item_ids int64 (n,), the ids of its rows.

    effort: how much is looked at: `ef_search` of faiss-hnsw, `nprobe` of faiss-ivfpq; nothing of
    faiss-flat.
    """

    kind: str
    item_ids: NDArray[np.int64]
    effort: int
    index: Any

    @classmethod
    def build(
        cls,
        kind: str,
        item_ids: NDArray[np.int64],
        vectors: NDArray[np.float32],
        ef_search: int,
    ) -> FaissIndex:
        """An index of vectors (n, d); ef_search is how faiss-hnsw will search.

        Raises TterecError where FAISS is not installed.
        """
        faiss = _faiss()
        points = np.ascontiguousarray(vectors, dtype=np.float32)
        count, dim = points.shape
        effort = 0
        if kind == "faiss-hnsw":
            index = faiss.IndexHNSWFlat(dim, _HNSW_M, faiss.METRIC_INNER_PRODUCT)
            index.hnsw.efConstruction = _HNSW_EF_CONSTRUCTION
            effort = ef_search
        elif kind == "faiss-ivfpq" and count >= _LEAST_QUANTISED:
            lists = max(1, min(int(4 * np.sqrt(count)), count // _TRAINING_POINTS))
            bits = min(_CODE_BITS, int(np.log2(count / _TRAINING_POINTS)))
            codes = max(n for n in range(1, dim // 2 + 1) if dim % n == 0) if dim > 1 else 1
            index = faiss.IndexIVFPQ(
                faiss.IndexFlatIP(dim), dim, lists, codes, bits, faiss.METRIC_INNER_PRODUCT
            )
            index.train(points)
            effort = max(1, lists // 4)
        else:
            index = faiss.IndexFlatIP(dim)
        index.add(points)
        return cls(kind, np.asarray(item_ids, dtype=np.int64), effort, index)

    def with_effort(self, effort: int) -> FaissIndex:
        """The same index, searched otherwise."""
        return replace(self, effort=effort)

    def nearest(
        self, vector: NDArray[np.floating], k: int, excluded: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """At least k item ids (m,) near a vector (d,), without the excluded.

        Fewer where the index stops short, or has no more.
        """
        faiss = _faiss()
        banned = np.flatnonzero(np.isin(self.item_ids, excluded))
        left = len(self.item_ids) - len(banned)
        rough = isinstance(self.index, faiss.IndexIVFPQ)
        wanted = min(k * _RERANKED if rough else k, left)
        if wanted <= 0:
            return self.item_ids[:0]
        selector = faiss.IDSelectorNot(faiss.IDSelectorBatch(banned)) if len(banned) else None
        if isinstance(self.index, faiss.IndexHNSWFlat):
            # The excluded take places in the search, though not in what it returns.
            effort = max(self.effort, wanted + len(banned))
            parameters = faiss.SearchParametersHNSW(sel=selector, efSearch=effort)
        elif rough:
            parameters = faiss.SearchParametersIVF(sel=selector, nprobe=self.effort)
        else:
            parameters = faiss.SearchParameters(sel=selector)
        query = np.asarray(vector, dtype=np.float32)[None, :]
        _, rows = self.index.search(query, wanted, params=parameters)
        found: NDArray[np.int64] = self.item_ids[rows[0][rows[0] >= 0]]
        return found

    def dump(self) -> bytes:
        """What `load` makes an index of again."""
        data: bytes = _faiss().serialize_index(self.index).tobytes()
        return data

    @classmethod
    def load(cls, kind: str, item_ids: NDArray[np.int64], effort: int, data: bytes) -> FaissIndex:
        """The index of a dump. Raises RuntimeError for anything else: check it before."""
        faiss = _faiss()
        index = faiss.deserialize_index(np.frombuffer(data, dtype=np.uint8))
        return cls(kind, item_ids, effort, index)


def require() -> None:
    """Raise TterecError, with the mend, where FAISS is not installed."""
    _faiss()


def _faiss() -> Any:
    try:
        import faiss
    except ImportError as error:
        raise TterecError(MISSING) from error
    # One query is over before a second thread has begun, and builds share the machine.
    faiss.omp_set_num_threads(1)
    return faiss
