"""What does not fit into memory lies in files, and training learns the same from it."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.unit.towers.worlds import World, planted_series
from tterec import arrays, fitting, grouping, memory
from tterec.config import TrainingConfig
from tterec.errors import TrainingError, TterecError
from tterec.records import Interactions, Progress, TrainedModel
from tterec.towers import Towers, fine_tune, train
from tterec.towers.distributed import Alone
from tterec.towers.histories import Histories, gather_histories

CONFIG = TrainingConfig(dim=8, epochs=2, threads=1)
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")


@pytest.fixture
def nothing_fits(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No array fits into memory; where the files are."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(arrays, "SHARE", 2**60)
    monkeypatch.setattr(arrays, "AT_ONCE", 100)
    return tmp_path


def in_file(values: np.ndarray) -> bool:
    base = values
    while isinstance(base, np.ndarray):
        if isinstance(base, np.memmap):
            return True
        base = base.base  # type: ignore[assignment]
    return False


def test_an_array_that_does_not_fit_is_in_a_file_that_nobody_must_delete(
    nothing_fits: Path,
) -> None:
    column = arrays.Column(np.int32)
    for start in range(0, 1000, 10):
        column.append(np.arange(start, start + 10))
    for found in (column.array(), arrays.empty(1000, np.int32)):
        assert in_file(found)
        found[:] = np.arange(1000)
        assert found.sum() == 499500
    if sys.platform == "linux":
        assert list(nothing_fits.iterdir()) == []


def test_what_fits_is_in_memory() -> None:
    column = arrays.Column(np.float32)
    column.append(np.arange(3))
    column.append(np.arange(2))
    found = column.array()
    assert found.tolist() == [0, 1, 2, 0, 1]
    assert not in_file(found)
    assert not in_file(arrays.empty(1000, np.int64))


@on_linux
def test_a_disk_without_room_is_an_error_that_names_the_mend(nothing_fits: Path) -> None:
    import resource

    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, former[1]))
    try:
        with pytest.raises(TterecError, match=rf"in {nothing_fits} .*set TMPDIR"):
            arrays.empty(1000, np.int64)
        column = arrays.Column(np.int64)
        with pytest.raises(TterecError, match="set TMPDIR"):
            column.append(np.zeros(10_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)


@on_linux
def test_a_limit_of_the_process_counts() -> None:
    lines = (
        "import resource, psutil; from tterec import memory;"
        "held = psutil.Process().memory_info().data;"
        "resource.setrlimit(resource.RLIMIT_DATA, (held + 2**26, resource.RLIM_INFINITY));"
        "print(memory.free_bytes())"
    )
    found = subprocess.run(
        [sys.executable, "-c", lines], capture_output=True, text=True, check=True
    )
    assert 2**25 < int(found.stdout) <= 2**26
    assert memory.free_bytes() > 2**26


def test_the_limit_of_a_control_group_counts_and_cached_files_do_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 400\ninactive_file 200\nactive_file 50\n")
    names = ("memory.max", "memory.current")
    assert list(memory._of_group(tmp_path, *names)) == [550]
    (tmp_path / "memory.max").write_text("max\n")
    assert list(memory._of_group(tmp_path, *names)) == []
    assert list(memory._of_group(tmp_path / "none", *names)) == []


def test_whole_users_come_by_ascending_id_each_in_the_order_given(nothing_fits: Path) -> None:
    ids = np.random.default_rng(0).integers(0, 40, 1000)
    found = [np.arange(1000)[some] for some in grouping.whole_users(ids)]
    assert len(found) > 5
    assert np.array_equal(np.concatenate(found), np.argsort(ids, kind="stable"))
    for before, after in itertools.pairwise(found):
        assert ids[before].max() < ids[after].min()


def test_starts_and_members() -> None:
    assert grouping.starts(np.array([3, 3, 5, 9, 9])).tolist() == [0, 2, 3]
    assert grouping.starts(np.array([], dtype=np.int64)).tolist() == []
    assert grouping.among(np.array([1, 5, 9]), np.array([5, 7])).tolist() == [False, True, False]
    assert grouping.among(np.array([1]), np.array([], dtype=np.int64)).tolist() == [False]


def shuffled(given: Interactions) -> Interactions:
    order = np.random.default_rng(1).permutation(len(given))
    return Interactions(
        given.user_ids[order], given.item_ids[order], given.ratings[order], given.rated_at[order]
    )


def plain_histories(given: Interactions, item_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Users and rows of items by one sort of everything, as a reference."""
    order = np.lexsort(
        (given.item_ids, -given.ratings, -given.rated_at, given.user_ids)  # NaN comes last
    )
    return given.user_ids[order], np.searchsorted(item_ids, given.item_ids[order])


def test_histories_from_files_are_those_of_one_sort(nothing_fits: Path) -> None:
    world = planted_series()
    given = shuffled(world.interactions)
    found = gather_histories(given, world.users, world.items, 200)
    assert isinstance(found, Histories)
    assert in_file(found.items)
    assert in_file(found.ratings)
    assert in_file(found.buckets)
    users, rows = plain_histories(given, world.items.ids)
    assert np.array_equal(found.user_ids[found.owners], users)
    assert np.array_equal(found.items, rows)
    keep = np.random.default_rng(0).random(len(rows)) < 0.5
    half = found.select(keep)
    assert np.array_equal(half.user_ids[half.owners], users[keep])
    assert np.array_equal(half.items, rows[keep])


def fitted(world: World, given: Interactions) -> TrainedModel:
    return fitting.fit(given, world.users, world.items, CONFIG)


def test_training_from_files_learns_the_same_to_the_last_bit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    world = planted_series()
    in_memory = fitted(world, world.interactions)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(arrays, "SHARE", 2**60)
    monkeypatch.setattr(arrays, "AT_ONCE", 100)
    monkeypatch.setattr("tterec.towers.batches.RUNS_AT_ONCE", 50)
    from_files = fitted(world, shuffled(world.interactions))
    assert from_files.weights == in_memory.weights
    assert np.array_equal(from_files.vectors.item_embeddings, in_memory.vectors.item_embeddings)
    assert in_memory.ranker is not None
    assert from_files.ranker is not None
    assert np.array_equal(from_files.ranker.weights, in_memory.ranker.weights)
    assert np.array_equal(from_files.ranker.sources, in_memory.ranker.sources)


_LIMITED = """
import resource, sys
import numpy as np, psutil
from tterec import arrays
from tterec.config import TrainingConfig
from tterec.records import FeatureTable, Interactions
from tterec.towers import train

ITEMS, EACH = 500, 50
arrays.AT_ONCE = 2**14
config = TrainingConfig(objective="mse", dim=4, epochs=1, threads=1, ranker=False)


def learn(users):
    held = [arrays.empty(users * EACH, kind) for kind in ("i8", "i8", "f4", "f8")]
    for piece in arrays.pieces(users * EACH):
        n = np.arange(piece.start, piece.stop)
        held[0][piece] = n // EACH
        held[1][piece] = (n // EACH * 7 + n % EACH * 10) % ITEMS
        held[2][piece] = n % 11
        held[3][piece] = n % 1000
    of_users = FeatureTable(np.arange(users))
    return train(Interactions(*held), of_users, FeatureTable(np.arange(ITEMS)), config)


learn(100)  # all that is imported and reserved once
limit = psutil.Process().memory_info().data + int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.RLIM_INFINITY))
if sys.argv[2] == "memory":
    arrays.SHARE = 0
print(learn(int(sys.argv[3])).metrics["interactions"])
"""


@on_linux
@pytest.mark.parametrize("place", ["files", "memory"])
def test_training_ends_in_memory_that_its_interactions_do_not_fit_into(
    place: str, tmp_path: Path
) -> None:
    """The kernel limits the memory; the same without files shows that the limit is one."""
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, str(32 * 2**20), place, "20000"],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert list(tmp_path.iterdir()) == []
    if place == "files":
        assert done.returncode == 0, done.stderr
        assert int(done.stdout) > 990_000
    else:
        assert done.returncode != 0
        assert "allocate" in done.stderr


def test_towers_that_do_not_fit_are_refused_before_they_learn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = planted_series()
    said: list[Progress] = []

    def refused(free: int, config: TrainingConfig) -> str:
        monkeypatch.setattr(memory, "free_bytes", lambda: free)
        with pytest.raises(TrainingError, match="towers of 400 items") as raised:
            fitting.fit(world.interactions, world.users, world.items, config, said.append)
        return str(raised.value)

    assert refused(20_000, CONFIG).endswith("leave columns out of the items and users queries")
    # The dimensions that it names are enough, and no more than that.
    wide = replace(CONFIG, dim=512)
    said_to = re.search(r"train with --dim (\d+), or on a larger machine$", refused(2**23, wide))
    assert said_to
    refused(2**23, replace(CONFIG, dim=2 * int(said_to[1])))
    assert not [step for step in said if step.stage == "train"]
    fits = replace(CONFIG, dim=int(said_to[1]))
    assert fitting.fit(world.interactions, world.users, world.items, fits).vectors.normalised


class _Beside(Alone):
    """As if another process of torchrun were on this machine."""

    beside = 1


def test_room_is_asked_for_sums_of_the_optimiser_other_processes_and_fine_tuning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = planted_series()
    config = replace(CONFIG, dim=256, epochs=1)
    data = world.interactions, world.users, world.items
    monkeypatch.setattr(memory, "free_bytes", lambda: 2**23)
    live = train(*data, config)
    with pytest.raises(TrainingError, match="with --dim 128"):
        train(*data, replace(config, optimiser="adamw"))
    with pytest.raises(TrainingError, match=r"in 2 processes.*torchrun --nproc-per-node 1, with"):
        train(*data, config, ranks=_Beside())
    towers = Towers.load(live.weights, live.features, config)
    new = np.arange(len(world.interactions)) % 10 == 0
    monkeypatch.setattr(memory, "free_bytes", lambda: 7_000_000)
    with pytest.raises(TrainingError, match=r"fine-tune on a larger machine, or .*train --dim 128"):
        fine_tune(towers, world.interactions, new, world.users, world.items, config=config)
