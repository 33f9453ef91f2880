"""Whether there is room on the server's disk for the next generation."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

from psycopg import errors as pg

from tterec.database.connection import Connection, Database
from tterec.database.findings import Finding, is_local, megabytes, value

# Measured with pgvector 0.8.5 on 5,000 items: 1,658 bytes an item at 64 dimensions, 1,155 at 16.
# Besides three vectors, in two tables and the HNSW index, it is their rows and keys (208), that
# index' lists (317) and what the second stage knows of the item (347). The other index, which such
# a small generation has not, holds the vector in half precision and 20 bytes.
_ITEM_BYTES = 920
# On a server that cannot be seen from here, less is not worth a word.
_WORTH_A_NOTE = 1 << 30


def estimated_bytes(rows: int, dim: int) -> int:
    """What a generation of so many items will take, without its users."""
    return rows * (3 * 4 * dim + 2 * dim + _ITEM_BYTES)


def generation_bytes(connection: Connection, generation: int) -> int:
    """What a generation's own tables take, with their indexes."""
    return int(
        value(
            connection,
            "SELECT coalesce(sum(pg_total_relation_size(oid)), 0) FROM pg_class"
            " WHERE relnamespace = 'tterec'::regnamespace AND relkind = 'r' AND relname ~ %s",
            f"_{generation}$",
        )
    )


def room(connection: Connection, database: Database, needed: int) -> Iterator[Finding]:
    """Whether the disk of the database has so many bytes for the next generation, and for its
    log where the server keeps one of them."""
    if value(connection, "SHOW wal_level") != "minimal":
        most = int(value(connection, "SELECT pg_size_bytes(current_setting('max_wal_size'))"))
        needed += min(needed, most)
    place = _place(connection)
    seen = place or "DIRECTORY, which psql shows a superuser by: SHOW data_directory"
    what = f"the next generation takes some {megabytes(needed)} of the server's disk"
    free = _free(place) if place is not None and is_local(connection, database) else None
    if free is not None:
        if free < needed:
            yield Finding(
                True,
                f"{what}, and {place} has {megabytes(free)} free",
                "free disk space there; older generations go by: tterec models prune",
            )
    elif needed > _WORTH_A_NOTE:
        yield Finding(
            False,
            f"{what}; how much is free cannot be seen from here",
            f"on the server: df -h {seen}",
        )


def _place(connection: Connection) -> str | None:
    """Where the database's files are; None where this role may not know."""
    try:
        with connection.transaction():
            return str(
                value(
                    connection,
                    "SELECT coalesce(nullif(pg_tablespace_location(dattablespace), ''),"
                    " current_setting('data_directory'))"
                    " FROM pg_database WHERE datname = current_database()",
                )
            )
    except pg.InsufficientPrivilege:
        return None


def _free(place: str) -> int | None:
    try:
        return shutil.disk_usage(place).free
    except OSError:  # of another user's, or in a container
        return None
