"""Whether the server has the shared memory that several processes at one statement take."""

from __future__ import annotations

from collections.abc import Iterator

from tterec.database import memory
from tterec.database.connection import Connection, Database
from tterec.database.findings import Finding, is_local, megabytes, value

_DEV_SHM_OF_A_CONTAINER = 64 << 20


def of_build(
    connection: Connection, database: Database, build: str, taken: int
) -> Iterator[Finding]:
    """A parallel build takes all of maintenance_work_mem from /dev/shm, used or not."""
    if not _processes(connection, "max_parallel_maintenance_workers"):
        return
    what = f"{build} takes {megabytes(taken)} of shared memory to build in parallel"
    if is_local(connection, database):
        free = memory.dev_shm_free()
        if free is not None and free < taken:
            yield Finding(
                True,
                f"{what}; {memory.DEV_SHM} has {megabytes(free)} free",
                _mend(connection, taken, "max_parallel_maintenance_workers"),
            )
    elif taken > _DEV_SHM_OF_A_CONTAINER:
        yield Finding(
            False,
            f"{what}; that server's cannot be seen from here",
            "on the server: df -h /dev/shm (Docker gives 64 MB; more by --shm-size)",
        )


def of_queries(connection: Connection, database: Database) -> Iterator[Finding]:
    """The processes of a query share a hash table, to which each lends what it may have itself."""
    processes = _processes(connection, "max_parallel_workers_per_gather")
    if not processes or not is_local(connection, database):
        return
    hashed = value(
        connection,
        "SELECT pg_size_bytes(current_setting('work_mem'))"
        " * current_setting('hash_mem_multiplier')::float8",
    )
    taken, free = int(hashed) * (1 + processes), memory.dev_shm_free()
    if free is not None and free < taken:
        yield Finding(
            True,
            f"a query of several processes takes up to {megabytes(taken)} of shared memory; "
            f"{memory.DEV_SHM} has {megabytes(free)} free",
            _mend(connection, taken, "max_parallel_workers_per_gather"),
        )


def _processes(connection: Connection, setting: str) -> int:
    """How many may help with a statement; none where what they share is not in /dev/shm."""
    if value(connection, "SHOW dynamic_shared_memory_type") != "posix":
        return 0
    # As the database has it: the doctor's own session may have switched it off.
    return int(value(connection, "SELECT reset_val::int FROM pg_settings WHERE name = %s", setting))


def _mend(connection: Connection, taken: int, setting: str) -> str:
    more = megabytes(2 * taken).replace(" ", "")
    return (
        f"give it more (Docker: --shm-size={more}), or psql: "
        f'ALTER DATABASE "{connection.info.dbname}" SET {setting} = 0'
    )
