"""What a candidate index is: items near a vector, to be scored exactly by whoever asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Candidates:
    """Items with what a ranked list shows of them, in no promised order.

    item_ids: int64 (n,). isbns and titles: n each. vectors: float32 (n, d), the item embeddings.
    """

    item_ids: NDArray[np.int64]
    isbns: list[str | None]
    titles: list[str | None]
    vectors: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.item_ids)


class CandidateIndex(Protocol):
    """Finds the items of the catalogue whose inner product with a vector is greatest."""

    def candidates(
        self,
        user_vector: NDArray[np.floating],
        k: int,
        excluded: NDArray[np.int64],
    ) -> Candidates:
        """At least the k best items for a vector (d,) that are not excluded.

        All of them where there are fewer than k. An approximate index may miss one of the best,
        never the number.
        """
        ...
