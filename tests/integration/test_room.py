"""Interactions that do not fit into memory are read into files, and are the same."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from tests.integration.test_train import SHOP
from tterec import arrays, errors, pipeline
from tterec.database.connection import Database
from tterec.records import Interactions, Progress
from tterec.store import reading, sources


def read(database: Database) -> tuple[Interactions, list[int]]:
    """The interactions, and how many had been read whenever that was said."""
    said: list[int] = []

    def watch(step: Progress) -> None:
        if step.stage == "read interactions":
            said.append(step.done)

    with database.connect(autocommit=True) as connection:
        found = reading.read_sources(connection, sources.chosen(connection, {}), watch)
    return found.interactions, said


@pytest.fixture
def unordered(database: Database) -> Database:
    """Ratings that lie in the table in no order."""
    with database.connect() as connection:
        connection.execute(SHOP)
        connection.execute(
            "CREATE TEMP TABLE held AS SELECT * FROM tterec.ratings;"
            " DELETE FROM tterec.ratings;"
            " INSERT INTO tterec.ratings SELECT * FROM held ORDER BY md5(user_id::text || book_id)"
        )
    return database


def test_what_outgrows_memory_is_the_same_read_in_order_by_the_server(
    unordered: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    in_memory, once = read(unordered)
    pairs = list(zip(in_memory.user_ids.tolist(), in_memory.item_ids.tolist(), strict=True))
    assert pairs == sorted(pairs)
    assert once == [len(in_memory)]
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(arrays, "SHARE", 2**60)
    in_files, said = read(unordered)
    for name in ("user_ids", "item_ids", "ratings", "rated_at"):
        column = getattr(in_files, name)
        assert np.array_equal(column, getattr(in_memory, name), equal_nan=True)
        # Were it sorted here, it would be in memory.
        assert name == "rated_at" or isinstance(column.base.base, np.memmap), name
    assert said == once


# Blocks of some 110,000 rows; then rows come more and more slowly, as from a busy server.
_HALF_WAY = 300_000
_SLOW = f"""
SELECT g AS user_id, 1 AS item_id,
    (CASE WHEN g > {_HALF_WAY} THEN length(pg_sleep(0.1)::text) END)::real AS rating
FROM generate_series(1, {_HALF_WAY + 10_000}) g
"""
_NOTHING_FITS = (
    "from tterec import arrays; arrays.SHARE = 2**60; from tterec.cli import main; main()"
)


def file_bytes(process: subprocess.Popen[str], folder: Path) -> int:
    """What the open files of a process in a folder, deleted ones as well, hold."""
    total = 0
    for one in Path(f"/proc/{process.pid}/fd").iterdir():
        with suppress(OSError):
            if str(one.readlink()).startswith(str(folder)):
                total += one.stat().st_size
    return total


@pytest.mark.skipif(sys.platform != "linux", reason="looks at open files through /proc")
def test_a_stream_that_breaks_off_leaves_no_file_and_says_why(
    unordered: Database, tmp_path: Path
) -> None:
    query, files = tmp_path / "interactions.sql", tmp_path / "files"
    query.write_text(_SLOW)
    files.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-c", _NOTHING_FITS, "train", "--interactions-sql", str(query)],
        env={**os.environ, "TTEREC_DATABASE_URL": unordered.url, "TMPDIR": str(files)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 120
        while file_bytes(process, files) < 2 * 110_000 * (8 + 8 + 4):  # two blocks
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        with unordered.connect() as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND query LIKE 'COPY%'"
            )
        stdout, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 1
    assert stdout == ""
    assert re.fullmatch(
        r"Error: the (server ended|connection to the database broke).*; try again\n", stderr
    )
    assert list(files.iterdir()) == []
    assert pipeline.models_list(unordered) == []


@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
def test_without_room_on_the_disk_either_training_is_refused(
    unordered: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    import resource

    monkeypatch.setattr(arrays, "SHARE", 2**60)
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, former[1]))
    try:
        with pytest.raises(errors.TterecError, match=r"not enough memory.*set TMPDIR"):
            pipeline.train(unordered)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
    assert pipeline.models_list(unordered) == []
