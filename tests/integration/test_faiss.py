"""FAISS and Postgres recommend the same; and no stale or damaged file is ever believed."""

from __future__ import annotations

import multiprocessing
import os
import stat
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import create_database, url_of
from tests.integration.generations import (
    plant,
    plant_books,
    plant_ratings,
    random_ranker,
    random_vectors,
)
from tests.integration.test_surfaces import assert_same, by_sql
from tterec import Recommender, config, errors
from tterec.database.connection import Connection, Database
from tterec.database.roles import READER
from tterec.retrieval import choice, pgvector
from tterec.retrieval.faiss_index import FaissIndex
from tterec.store import pruning, revisions, vector_tables

FAISS = tuple(name for name in choice.INDEXES if name != choice.PGVECTOR)
BOOKS = 600
USERS = range(1, 25)
HISTORIES = (0, 1, 5, 30, 250)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the files lie."""
    monkeypatch.setenv(config.HOME_VARIABLE, str(tmp_path))
    return tmp_path / "cache" / "indexes"


def plant_shop(
    connection: Connection, *, ranker: bool = False, normalised: bool = True, seed: int = 0
) -> int:
    if connection.execute("SELECT FROM tterec.books").fetchone() is None:
        books, rng = plant_books(connection, BOOKS), np.random.default_rng(3)
        for user in USERS:
            length = HISTORIES[user % len(HISTORIES)]
            read = rng.choice(books, length, replace=False)
            plant_ratings(connection, user, read.tolist(), rng.integers(0, 11, length).tolist())
    books = np.arange(1, BOOKS + 1)
    vectors = random_vectors(books, USERS, dim=16, normalised=normalised, scale=2.0, seed=seed)
    second_stage = random_ranker(books) if ranker else None
    return plant(connection, vectors, ranker=second_stage, ef_search=400)


@pytest.fixture
def shop(database: Database) -> Database:
    with database.connect() as connection:
        plant_shop(connection)
    return database


def files(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.rglob("*.index"))


def the_file(cache: Path) -> Path:
    [path] = cache.rglob("*.index")
    return path


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The kinds of index that were built, in order; they are built as ever."""
    built: list[str] = []
    build = FaissIndex.build

    def counted(kind: str, *rest: object) -> FaissIndex:
        built.append(kind)
        return build(kind, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(FaissIndex, "build", counted)
    return built


@pytest.mark.parametrize("ranker", [False, True])
@pytest.mark.parametrize("normalised", [True, False])
def test_sql_and_every_index_agree(database: Database, ranker: bool, normalised: bool) -> None:
    with database.connect() as connection:
        plant_shop(connection, ranker=ranker, normalised=normalised)
        connection.commit()
        wanted = {u: by_sql(connection, "recommend(%s, %s)", u, 10) for u in USERS}
        near = by_sql(connection, "similar_books(%s, %s)", "0000000007", 10)
    for name in FAISS:
        with Recommender(database, index=name) as recommender:
            many = dict(recommender.recommend_many([*USERS], 10))
            found, common = 0, 0
            for user in USERS:
                ours = [asdict(one) for one in recommender.recommend(user, 10)]
                assert ours == [asdict(one) for one in many[user]]
                scores = {one["book_id"]: one["score"] for one in wanted[user]}
                assert len(ours) == 10
                for one in ours:
                    if one["book_id"] in scores:
                        assert one["score"] == pytest.approx(scores[one["book_id"]], abs=1e-5)
                        common += 1
                found += 10
                if name == "faiss-flat":
                    assert_same(wanted[user], ours)
            assert common / found > 0.9, name
            similar = [asdict(one) for one in recommender.similar("0000000007", 10)]
            if name == "faiss-flat":
                assert_same(near, similar)


@pytest.mark.parametrize("name", FAISS)
def test_a_rated_book_never_appears_and_k_do_while_there_are_k(shop: Database, name: str) -> None:
    with shop.connect() as connection, Recommender(shop, index=name) as recommender:
        first = recommender.recommend(2, 300)
        assert len(first) == 300
        plant_ratings(connection, 2, [one.book_id for one in first], [9.0] * 300)
        connection.commit()
        met = {
            row[0]
            for row in connection.execute("SELECT book_id FROM tterec.ratings WHERE user_id = 2")
        }
        after = {one.book_id for one in recommender.recommend(2, 1000)}
        assert after == set(range(1, BOOKS + 1)) - met
        assert len(recommender.recommend(2, 25)) == 25
        assert len(recommender.recommend(2, BOOKS, exclude_rated=False)) == BOOKS


@pytest.mark.parametrize("name", FAISS)
@pytest.mark.parametrize("ranker", [False, True])
def test_a_book_that_left_the_catalogue_never_appears(
    database: Database, name: str, ranker: bool
) -> None:
    with database.connect() as connection, Recommender(database, index=name) as recommender:
        plant_shop(connection, ranker=ranker)
        connection.commit()
        gone = [one.book_id for one in recommender.recommend(1, 40)]
        connection.execute("DELETE FROM tterec.books WHERE book_id = ANY (%s)", (gone,))
        connection.commit()
        lists = [recommender.recommend(1, 40), dict(recommender.recommend_many([1], 40))[1]]
        for found in lists:
            assert len(found) == 40
            assert not {one.book_id for one in found} & set(gone)


def test_a_file_is_built_once_and_private(shop: Database, cache: Path, builds: list[str]) -> None:
    for _ in range(2):
        with Recommender(shop, index="faiss-hnsw") as recommender:
            recommender.recommend(1)
            recommender.recommend(2)
    assert builds == ["hnsw"]
    if os.name == "posix":
        assert stat.S_IMODE(the_file(cache).stat().st_mode) == 0o600
        assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    assert not [*cache.rglob("*.part")]


@pytest.mark.parametrize("name", FAISS)
@pytest.mark.parametrize("damage", ["digest", "header", "ids", "last byte", "cut", "empty"])
def test_a_damaged_file_is_built_again(
    shop: Database, cache: Path, builds: list[str], name: str, damage: str
) -> None:
    with Recommender(shop, index=name) as recommender:
        wanted = recommender.recommend(3, 20)
    path = the_file(cache)
    data = bytearray(path.read_bytes())
    flipped = {"digest": 0, "header": 80, "ids": 600, "last byte": len(data) - 1}
    if damage in flipped:
        data[flipped[damage]] ^= 1
    elif damage == "cut":
        del data[len(data) // 2 :]
    else:
        data.clear()
    path.write_bytes(data)
    with Recommender(shop, index=name) as recommender:
        assert recommender.recommend(3, 20) == wanted
    assert len(builds) == 2
    with Recommender(shop, index=name) as recommender:
        assert recommender.recommend(3, 20) == wanted
    assert len(builds) == 2


def change_in_place(connection: Connection, generation: int) -> None:
    """Turn the vectors of a live generation around, as an update does, and say so."""
    table = vector_tables.table("item_vectors", generation).as_string()
    connection.execute(f"UPDATE {table} SET embedding = embedding * '{[-1] * 16}'".encode())
    revisions.bump(connection, generation)


@pytest.mark.parametrize("name", FAISS)
def test_vectors_that_changed_in_place_are_noticed(
    shop: Database, builds: list[str], name: str
) -> None:
    with shop.connect() as connection, Recommender(shop, index=name) as recommender:
        before = recommender.recommend(3)
        change_in_place(connection, 1)
        assert recommender.recommend(3) == before  # not committed yet
        connection.commit()
        after = recommender.recommend(3)  # by the index that it holds, not a file only
        assert {one.book_id for one in after}.isdisjoint({one.book_id for one in before})
        many = dict(recommender.recommend_many([3]))[3]
        exact = by_sql(connection, "recommend(3)")
    assert many == after
    if name == "faiss-flat":
        assert_same(exact, [asdict(one) for one in after])
    with Recommender(shop, index=name) as recommender:  # from the file
        assert recommender.recommend(3) == after
    assert len(builds) == 2


def test_a_new_generation_replaces_the_files_of_the_old(shop: Database, cache: Path) -> None:
    with shop.connect() as connection, Recommender(shop, index="faiss-flat") as recommender:
        recommender.recommend(3)
        for name in ("faiss-hnsw", "faiss-ivfpq"):
            with Recommender(shop, index=name) as other:
                other.recommend(3)
        assert files(cache) == ["flat-1.index", "hnsw-1.index", "ivfpq-1.index"]
        assert plant_shop(connection, seed=9) == 2
        connection.commit()
        found = recommender.recommend(3)
        assert_same(by_sql(connection, "recommend(3)"), [asdict(one) for one in found])
        assert files(cache) == ["flat-2.index"]
        connection.execute("UPDATE tterec.active_model SET generation = 1")
        connection.commit()
        recommender.recommend(3)
        assert files(cache) == ["flat-1.index", "flat-2.index"]  # rolled back and forth


def test_two_databases_share_no_file(
    server: str, template: str, shop: Database, cache: Path
) -> None:
    other = Database(url_of(server, create_database(server, template)))
    with other.connect() as connection:
        plant_shop(connection, seed=4)
    lists = []
    for database in (shop, other, shop):
        with Recommender(database, index="faiss-flat") as recommender:
            lists.append(recommender.recommend(3))
    assert lists[0] == lists[2] != lists[1]
    assert files(cache) == ["flat-1.index"] * 2


def test_pruning_forgets_the_mark(shop: Database) -> None:
    with shop.connect(autocommit=True) as connection:
        revisions.bump(connection, 1)
        model = pgvector.live_model(connection)
        assert model is not None
        assert pgvector.vectors_state(connection, model).mark is not None
        for seed in (1, 2):
            plant_shop(connection, seed=seed)
        assert pruning.prune(connection).pruned == [1]
        assert pgvector.vectors_state(connection, model).mark is None


def test_a_role_that_may_only_read_needs_no_more(shop: Database) -> None:
    with shop.connect() as connection:
        connection.execute(f"SET ROLE {READER}".encode())
        model = pgvector.live_model(connection)
        assert model is not None
        found = choice.Indexes("faiss-hnsw").of(connection, model)
        assert len(found.candidates(np.ones(16), 10, pgvector.NO_ITEMS)) >= 10


def _ask(url: str, name: str, answers: multiprocessing.Queue) -> None:  # type: ignore[type-arg]
    with Recommender(url, index=name) as recommender:
        answers.put([one.book_id for one in recommender.recommend(3)])


def test_processes_that_build_at_once_build_one_file(shop: Database, cache: Path) -> None:
    processes = multiprocessing.get_context("spawn")
    answers = processes.Queue()
    started = [
        processes.Process(target=_ask, args=(shop.url, "faiss-flat", answers)) for _ in range(3)
    ]
    for one in started:
        one.start()
    lists = [answers.get(timeout=120) for _ in started]
    for one in started:
        one.join()
    assert lists[0] == lists[1] == lists[2]
    assert files(cache) == ["flat-1.index"]
    assert not [*cache.rglob("*.part")]


def test_what_a_killed_build_left_goes(shop: Database, cache: Path) -> None:
    with Recommender(shop, index="faiss-flat") as recommender:
        recommender.recommend(3)
    path = the_file(cache)
    left = path.with_name("tmpabc.part")
    left.write_bytes(b"half")
    path.unlink()
    with Recommender(shop, index="faiss-flat") as recommender:
        recommender.recommend(3)
    assert not left.exists()


def test_a_cache_that_cannot_be_written_is_named(
    shop: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv(config.HOME_VARIABLE, str(tmp_path / "file"))
    with (
        Recommender(shop, index="faiss-flat") as recommender,
        pytest.raises(errors.TterecError, match="set TTEREC_HOME") as said,
    ):
        recommender.recommend(3)
    assert "\n" not in str(said.value)


def test_an_unknown_index_is_refused() -> None:
    with pytest.raises(errors.InvalidArgument, match="faiss-hnsw"):
        Recommender("postgresql://127.0.0.1:1/nowhere", index="annoy")


def test_a_catalogue_with_few_items_left_thrice_each_is_no_fault(shop: Database) -> None:
    """The index finds k rows of the catalogue that are fewer than k items."""
    with shop.connect() as connection:
        connection.execute(
            "CREATE OR REPLACE VIEW tterec.catalogue AS SELECT book_id AS item_id, isbn, title"
            " FROM tterec.books, generate_series(1, 3) WHERE book_id % 3 = 0"
        )
    with Recommender(shop, index="faiss-flat") as recommender:
        assert len(recommender.recommend(2, 10)) == 10


def test_a_file_that_windows_does_not_let_go_is_no_reason_to_fail(
    shop: Database, cache: Path, builds: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Recommender(shop, index="faiss-flat") as recommender:
        wanted = recommender.recommend(3)
    path = the_file(cache)
    path.write_bytes(path.read_bytes()[:-1])
    left = path.with_name("tmpabc.part")
    left.write_bytes(b"half")

    def refuse(self: Path, *_: object, **__: object) -> None:
        if self == left or (self.suffix == ".part" and _):
            raise PermissionError(13, "used by another process")
        unlink(self, missing_ok=True)

    unlink = Path.unlink
    monkeypatch.setattr(Path, "replace", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    with Recommender(shop, index="faiss-flat") as recommender:
        assert recommender.recommend(3) == wanted
    assert builds == ["flat", "flat"]
    assert left.exists()
