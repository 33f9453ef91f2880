"""Interactions that do not fit into memory are read into files, and are the same."""

from __future__ import annotations

import sys
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


@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
def test_without_room_on_the_disk_either_training_is_refused(
    unordered: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    import resource

    monkeypatch.setattr(arrays, "SHARE", 2**60)
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, former[1]))
    try:
        with pytest.raises(errors.TterecError, match=r"not enough memory.*export TMPDIR"):
            pipeline.train(unordered)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
    assert pipeline.models_list(unordered) == []
