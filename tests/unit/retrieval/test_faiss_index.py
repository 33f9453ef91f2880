"""FAISS in memory, against brute force; and that candidates are never fewer than there are."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tterec.ranking import exact
from tterec.retrieval.base import Candidates
from tterec.retrieval.faiss_candidates import FaissMatrix
from tterec.retrieval.faiss_index import KINDS, FaissIndex, Kind, require_faiss
from tterec.retrieval.matrix import MatrixIndex

NONE = np.zeros(0, np.int64)
ITEMS, DIM = 800, 16
EFFORT = {"flat": 1, "hnsw": 200, "ivfpq": 12}


def unit_vectors(count: int, dim: int = DIM, seed: int = 0) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).normal(size=(count, dim))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def catalogue(vectors: NDArray[np.float32]) -> Candidates:
    ids = np.arange(len(vectors)) * 3 + 7
    return Candidates(ids, [f"i{i}" for i in ids], [None] * len(ids), vectors)


SHOP = catalogue(unit_vectors(ITEMS))
BUILT = {kind: FaissIndex.build(kind, SHOP.item_ids, SHOP.vectors) for kind in KINDS}


def ranked(found: Candidates, query: NDArray[np.floating], k: int) -> list[tuple[int, float]]:
    scores = exact.exact_scores(query, found.vectors)
    order = exact.rank(found.item_ids, scores, k)
    return [(int(found.item_ids[i]), float(scores[i])) for i in order]


@pytest.mark.parametrize("kind", KINDS)
def test_an_index_finds_what_brute_force_finds(kind: Kind) -> None:
    queries = unit_vectors(40, seed=1)
    index = FaissMatrix(SHOP, BUILT[kind], EFFORT[kind])
    hits = 0
    for query in queries:
        ours = ranked(index.candidates(query, 10, NONE), query, 10)
        wanted = ranked(MatrixIndex(SHOP).candidates(query, 10, NONE), query, 10)
        assert len(ours) == 10
        hits += len({*ours} & {*wanted})  # with equal scores: those of exact vectors
        if kind == "flat":
            assert ours == wanted
    assert hits / 400 > 0.9


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(KINDS), st.integers(0, ITEMS), st.integers(0, 40), st.integers(0, 2**32 - 1))
def test_excluded_items_never_appear_and_k_are_found_while_there_are_k(
    kind: Kind, excluded: int, k: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    query = random.normal(size=DIM)
    if seed % 2:  # a reader who has met all that is near, as readers have
        unwanted = SHOP.item_ids[np.argsort(-(SHOP.vectors @ query))[:excluded]]
    else:
        unwanted = random.choice(SHOP.item_ids, excluded, replace=False)
    strangers = np.array([1, 2, -5, 10**12])
    index = FaissMatrix(SHOP, BUILT[kind], EFFORT[kind])
    found = index.candidates(query, k, np.concatenate([unwanted, strangers, unwanted[:1]]))
    assert len(found) >= min(k, ITEMS - excluded)
    assert not np.isin(found.item_ids, unwanted).any()
    assert len(np.unique(found.item_ids)) == len(found)


@pytest.mark.parametrize("kind", KINDS)
def test_items_outside_the_catalogue_do_not_shorten_a_list(kind: Kind) -> None:
    query = unit_vectors(1, seed=2)[0]
    left = np.argsort(-(SHOP.vectors @ query))[:300]
    there = np.setdiff1d(np.arange(ITEMS), left)
    rest = Candidates(
        SHOP.item_ids[there],
        [SHOP.isbns[i] for i in there],
        [SHOP.titles[i] for i in there],
        SHOP.vectors[there],
    )
    found = FaissMatrix(rest, BUILT[kind], EFFORT[kind]).candidates(query, 20, NONE)
    assert len(found) >= 20
    assert np.isin(found.item_ids, rest.item_ids).all()


@pytest.mark.parametrize("kind", ["flat", "hnsw"])
def test_identical_vectors_rank_by_id_across_the_last_place(kind: Kind) -> None:
    vectors = unit_vectors(200)
    vectors[50:120] = vectors[0]
    twins = catalogue(vectors)
    index = FaissMatrix(twins, FaissIndex.build(kind, twins.item_ids, vectors), 100)
    ours = ranked(index.candidates(vectors[0], 10, NONE), vectors[0], 10)
    assert [item for item, _ in ours] == [twins.item_ids[0], *twins.item_ids[50:59].tolist()]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("count", "dim"), [(0, 4), (1, 4), (2, 7), (5, 1), (60, 13), (300, 9)])
def test_small_catalogues_and_odd_dimensions(
    kind: Kind, count: int, dim: int, capfd: pytest.CaptureFixture[str]
) -> None:
    items = catalogue(unit_vectors(count, dim))
    built = FaissIndex.build(kind, items.item_ids, items.vectors)
    found = FaissMatrix(items, built, 8).candidates(np.ones(dim), 10, NONE)
    assert len(found) >= min(10, count)
    again = FaissIndex.from_bytes(kind, items.item_ids, built.to_bytes())
    assert again.nearest(np.ones(dim), 5, NONE, 8)[0].tolist() == (
        built.nearest(np.ones(dim), 5, NONE, 8)[0].tolist()
    )
    assert capfd.readouterr().err == ""  # FAISS complains of few points


@pytest.mark.parametrize("kind", KINDS)
def test_long_vectors_count_as_long(kind: Kind) -> None:
    long = SHOP.vectors.copy()
    long[3] *= 20
    built = FaissIndex.build(kind, SHOP.item_ids, long)
    query = long[3] + unit_vectors(1, seed=4)[0]
    assert built.nearest(query, 5, NONE, 64)[0][0] == SHOP.item_ids[3]


def test_bytes_that_are_no_index_are_refused() -> None:
    with pytest.raises(ValueError, match="not an index of FAISS"):
        FaissIndex.from_bytes("flat", SHOP.item_ids, np.arange(100, dtype=np.uint8))
    with pytest.raises(ValueError, match="800 vectors of 2 items"):
        FaissIndex.from_bytes("flat", SHOP.item_ids[:2], BUILT["flat"].to_bytes())


def test_threads_are_as_many_after_a_search_as_before() -> None:
    faiss = require_faiss()
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(3)
    try:
        BUILT["flat"].nearest(np.ones(DIM), 5, NONE, 1)
        assert faiss.omp_get_max_threads() == 3
    finally:
        faiss.omp_set_num_threads(before)


def test_choosing_pgvector_imports_no_faiss() -> None:
    code = (
        "import sys\nfrom tterec.retrieval.choice import Indexes\nIndexes('pgvector')\n"
        "assert 'faiss' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
