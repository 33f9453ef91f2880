"""Whether the server's cache is as serving would have it."""

from __future__ import annotations

from collections.abc import Iterator

from tterec.database import disk
from tterec.database.connection import Connection
from tterec.database.findings import Finding, megabytes, value

# Below it, a huge page saves few of the processor's searches for small ones.
_WORTH_HUGE_PAGES = 1 << 30


def of_serving(connection: Connection, generation: int) -> Iterator[Finding]:
    """Whether the cache holds what serving reads at random, and lies in huge pages."""
    cache = int(value(connection, "SELECT pg_size_bytes(current_setting('shared_buffers'))"))
    read = disk.generation_bytes(connection, generation)
    if cache < read:
        yield Finding(
            False,
            f"the live generation takes {megabytes(read)}, and shared_buffers holds "
            f"{megabytes(cache)}: lists take longer than they need",
            f"psql, where memory allows: ALTER SYSTEM SET shared_buffers = "
            f"'{megabytes(2 * read).replace(' ', '')}', then restart Postgres",
        )
    # Postgres 16 and earlier do not say. Of huge pages, -1 says that there are none here.
    status = value(connection, "SELECT current_setting('huge_pages_status', true)")
    pages = int(value(connection, "SHOW shared_memory_size_in_huge_pages"))
    if cache >= _WORTH_HUGE_PAGES and status == "off" and pages > 0:
        yield Finding(
            False,
            f"shared_buffers of {megabytes(cache)} lies in small pages of memory: by huge ones "
            "it gives a fifth more lists a second",
            f"on the server, as root: sysctl -w vm.nr_hugepages={pages}, then restart Postgres, "
            "whose setting huge_pages must not be off",
        )
