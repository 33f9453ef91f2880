"""What an HNSW index build takes of the server's memory."""

from __future__ import annotations


def hnsw_build_bytes(rows: int, dim: int, m: int) -> int:
    """Bytes of the graph of `rows` vectors of `dim` dimensions while pgvector builds it.

    An element (some 200 bytes with its allocations), its vector, 2m neighbours of 16 bytes in the
    lowest layer, and m more in each of the layers above, of which it is in 1/(m-1) on average.
    """
    vector = 8 + 4 * dim
    neighbours = 16 * (2 * m + m / (m - 1))
    return int(rows * (200 + vector + neighbours)) + (1 << 20)
