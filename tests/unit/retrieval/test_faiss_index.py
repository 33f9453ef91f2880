"""FAISS's indexes against exact search; their files on disk."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tterec.errors import TterecError
from tterec.retrieval import index_cache
from tterec.retrieval.faiss_index import KINDS, FaissIndex

DIM = 16
ITEMS = 3000


def unit_vectors(count: int, seed: int = 0) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).normal(size=(count, DIM))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def built(kind: str, count: int = ITEMS) -> FaissIndex:
    return FaissIndex.build(kind, np.arange(count) * 7 + 3, unit_vectors(count), ef_search=200)


@pytest.fixture(scope="module", params=KINDS)
def index(request: pytest.FixtureRequest) -> FaissIndex:
    return built(request.param)


def exact(query: NDArray[np.float32], k: int, excluded: NDArray[np.int64]) -> list[int]:
    scores = unit_vectors(ITEMS) @ query
    ids = np.arange(ITEMS) * 7 + 3
    scores[np.isin(ids, excluded)] = -np.inf
    return ids[np.argsort(-scores)[:k]].tolist()


def test_the_nearest_are_among_what_is_found(index: FaissIndex) -> None:
    nobody = np.zeros(0, np.int64)
    shares = [
        len(set(index.nearest(query, 10, nobody).tolist()) & set(exact(query, 10, nobody))) / 10
        for query in unit_vectors(50, seed=1)
    ]
    assert np.mean(shares) == 1.0 if index.kind == "faiss-flat" else np.mean(shares) > 0.9


@settings(max_examples=25, deadline=None)
@given(banned=st.integers(0, ITEMS), k=st.integers(1, 40), seed=st.integers(0, 5))
def test_what_is_excluded_is_not_found_and_flat_finds_all_the_rest(
    index: FaissIndex, banned: int, k: int, seed: int
) -> None:
    query = unit_vectors(1, seed=100 + seed)[0]
    excluded = np.array(exact(query, banned, np.zeros(0, np.int64)), dtype=np.int64)
    found = index.nearest(query, k, excluded)
    assert not np.isin(found, excluded).any()
    assert len(np.unique(found)) == len(found)
    if index.kind == "faiss-flat":
        assert found.tolist() == exact(query, min(k, ITEMS - banned), excluded)


@pytest.mark.parametrize("count", [0, 1, 30, 999, 1000])
@pytest.mark.parametrize("kind", KINDS)
def test_small_catalogues_have_an_index_too(kind: str, count: int) -> None:
    found = built(kind, count).nearest(unit_vectors(1, 9)[0], 5, np.zeros(0, np.int64))
    assert len(found) >= min(5, count)


def test_a_file_gives_the_index_that_was_kept(index: FaissIndex, tmp_path: Path) -> None:
    index_cache.cached(tmp_path, index.kind, "3/1", lambda: index)
    again = index_cache.cached(tmp_path, index.kind, "3/1", never)
    query = unit_vectors(1, seed=4)[0]
    nobody = np.zeros(0, np.int64)
    assert again.nearest(query, 20, nobody).tolist() == index.nearest(query, 20, nobody).tolist()
    assert [path.name for path in tmp_path.glob("*.index*")] == [f"{index.kind}.index"]
    assert (tmp_path / f"{index.kind}.index").stat().st_mode & 0o077 == 0


def never() -> FaissIndex:
    raise AssertionError("built, though it was there")


@pytest.mark.parametrize("place", [0, 5, 25, 60, 500, -40, -1])
def test_a_flipped_byte_is_noticed(index: FaissIndex, tmp_path: Path, place: int) -> None:
    index_cache.cached(tmp_path, index.kind, "3/1", lambda: index)
    path = tmp_path / f"{index.kind}.index"
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    assert index_cache.read(path, index.kind, "3/1") is None
    index_cache.cached(tmp_path, index.kind, "3/1", lambda: index)
    assert index_cache.read(path, index.kind, "3/1") is not None


@pytest.mark.parametrize("length", [0, 10, 30, 100, 5000])
def test_a_file_that_was_cut_off_is_noticed(index: FaissIndex, tmp_path: Path, length: int) -> None:
    index_cache.cached(tmp_path, index.kind, "3/1", lambda: index)
    path = tmp_path / f"{index.kind}.index"
    path.write_bytes(path.read_bytes()[:length])
    assert index_cache.read(path, index.kind, "3/1") is None


def test_a_file_of_other_vectors_is_not_used(index: FaissIndex, tmp_path: Path) -> None:
    index_cache.cached(tmp_path, index.kind, "3/1", lambda: index)
    path = tmp_path / f"{index.kind}.index"
    assert index_cache.read(path, index.kind, "3/2") is None
    assert index_cache.read(path, "faiss-other", "3/1") is None


def test_a_place_that_cannot_be_written_is_named(index: FaissIndex, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(TterecError, match="TTEREC_HOME"):
        index_cache.cached(tmp_path / "taken", index.kind, "3/1", lambda: index)


def test_without_faiss_the_mend_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(TterecError, match=r"pip install 'tterec\[faiss\]'"):
        built("faiss-flat", 5)
