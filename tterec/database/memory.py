"""What an index build takes of the server's memory."""

from __future__ import annotations

from pathlib import Path

from tterec.database.connection import Connection

HNSW_M = 16
HNSW_EF_CONSTRUCTION = 64
"""pgvector's own defaults. Recall is raised by ef_search: with twice the ef_construction, 112,000
vectors of Book-Crossing had .99 of the exact first 100 at ef_search 240 instead of 320, a tenth
less time a search, but took half as long again to build; m = 24 took twice as long, and gained
nothing."""

MOST_BUILD_BYTES = 2 << 30
"""Publishing raises maintenance_work_mem to what the graph takes, up to this: a parallel build
takes all of it as shared memory. It holds 2 million vectors of 64 dimensions."""

DEV_SHM = Path("/dev/shm")


def hnsw_build_bytes(rows: int, dim: int, m: int) -> int:
    """The maintenance_work_mem that holds the graph of `rows` vectors while pgvector builds it.

    An element is a fixed part, its vector, 2m neighbours of 16 bytes in the lowest layer, and m
    more in each of the layers above, of which it is in 1 / (m - 1) on average. The fixed part
    was measured with pgvector 0.8.5 as maintenance_work_mem over the rows after which the graph
    no longer fits it: 971 bytes at dim 64, m 16 (this formula: 978); 730 at dim 4 (738), 1738 at
    dim 256 (1746), 3790 at dim 768 (3794); at dim 64 with m 4 598 (598), with m 32 1480 (1490).
    A parallel build lost another 2 to 4 MB, whatever the memory.
    """
    vector = 8 + 4 * dim
    neighbours = 16 * (2 * m + m / (m - 1))
    return int(rows * (185 + vector + neighbours)) + (4 << 20)


def raise_maintenance_work_mem(connection: Connection, needed: int) -> None:
    """Set maintenance_work_mem to so many bytes, if that is more, until the commit."""
    connection.execute(
        "SELECT set_config('maintenance_work_mem', %(kb)s || 'kB', true) FROM pg_settings"
        " WHERE name = 'maintenance_work_mem' AND setting::bigint < %(kb)s",
        {"kb": -(-needed // 1024)},
    )


def dev_shm_free() -> int | None:
    """Bytes free in this computer's /dev/shm, where parallel builds share the graph.

    None where the system has no such place.
    """
    import shutil

    try:
        return shutil.disk_usage(DEV_SHM).free
    except OSError:
        return None
