"""A Postgres server for the time of a benchmark."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tterec.database import system_user
from tterec.database.cluster import Cluster
from tterec.database.connection import Database


@contextmanager
def own_server() -> Iterator[Database]:
    """A server with the defaults of the embedded one, for the time of the block."""
    folder = Path(tempfile.mkdtemp(prefix="tterec-bench-"))
    system_user.open_home(folder)
    cluster = Cluster(folder)
    cluster.create()
    try:
        yield Database(cluster.start().url("postgres"))
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)
