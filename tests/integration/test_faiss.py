"""FAISS finds the candidates; the lists are those of Postgres."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.generations import plant, plant_books, random_vectors
from tests.integration.test_surfaces import USERS, plant_shop
from tterec import Filters, Recommender, errors
from tterec.database.connection import Database
from tterec.records import Recommendation
from tterec.retrieval.faiss_index import KINDS
from tterec.store import generations, registry


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TTEREC_HOME", str(tmp_path))
    return tmp_path / "cache"


def index_files(cache: Path) -> list[Path]:
    return sorted(cache.rglob("*.index"))


@pytest.mark.parametrize("ranker", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_lists_are_those_of_pgvector(
    database: Database, cache: Path, kind: str, ranker: bool
) -> None:
    plant_shop(database, normalised=True, ranker=ranker)
    shared = 0
    with Recommender(database) as plain, Recommender(database, index=kind) as by_faiss:
        for user in range(1, USERS, 5):
            wanted = {one.book_id: one for one in plain.recommend(user, 20)}
            found = by_faiss.recommend(user, 20)
            assert len(found) == 20
            assert [one.rank for one in found] == list(range(1, 21))
            assert not {one.book_id for one in found} & met(database, user)
            for one in found:
                if one.book_id in wanted:
                    shared += 1
                    assert abs(one.score - wanted[one.book_id].score) <= 1e-5
            if kind == "faiss-flat":
                assert [one.book_id for one in found] == [*wanted]
        lists = len(range(1, USERS, 5))
        # Random vectors lie in no clusters, which IVFPQ lives on.
        assert shared > (0.5 if kind == "faiss-ivfpq" else 0.8) * 20 * lists
        assert shown(by_faiss.similar("0000000007", 5)) == shown(plain.similar("0000000007", 5))


def met(database: Database, user: int) -> set[int]:
    with database.connect() as connection:
        rows = connection.execute(
            "SELECT book_id FROM tterec.ratings WHERE user_id = %s", (user,)
        ).fetchall()
    return {row[0] for row in rows}


def shown(found: list[Recommendation]) -> list[tuple[str, float]]:
    return [(one.isbn, round(one.score, 4)) for one in found]


def test_filters_hold(database: Database, cache: Path) -> None:
    plant_shop(database, normalised=True)
    isbns = ("0000000003", "0000000004", "0000000005")
    with Recommender(database, index="faiss-flat") as recommender:
        found = recommender.recommend(1, 10, filters=Filters(only_isbns=isbns))
    assert {one.isbn for one in found} <= set(isbns)


def test_books_that_left_are_not_found_and_k_are(database: Database, cache: Path) -> None:
    plant_shop(database, normalised=True)
    with Recommender(database, index="faiss-hnsw") as recommender:
        first = recommender.recommend(1, 30)
        with database.connect() as connection:
            connection.execute(
                "DELETE FROM tterec.books WHERE book_id = ANY (%s)",
                ([one.book_id for one in first[:28]],),
            )
        again = recommender.recommend(1, 30)
    assert len(again) == 30
    assert not {one.book_id for one in again} & {one.book_id for one in first[:28]}


def test_vectors_changed_in_place_make_another_index(database: Database, cache: Path) -> None:
    with database.connect() as connection:
        books = plant_books(connection, 50)
        plant(connection, random_vectors(books, [1]))
        generation = registry.live(connection)
        assert generation is not None
    with Recommender(database, index="faiss-flat") as recommender:
        best = recommender.similar("0000000001", 49)
        last = best[-1]
        with database.connect() as connection:
            # The farthest book comes to lie where the asked one lies.
            connection.execute(
                f"UPDATE tterec.item_vectors_{generation} v SET embedding = o.embedding"
                f" FROM tterec.item_vectors_{generation} o"
                " WHERE o.item_id = 1 AND v.item_id = %s".encode(),
                (last.book_id,),
            )
            generations.touch(connection, generation)
        assert recommender.similar("0000000001", 1)[0].book_id == last.book_id
    with Recommender(database, index="faiss-flat") as recommender:  # from disk
        assert recommender.similar("0000000001", 1)[0].book_id == last.book_id


def test_another_generation_another_database_another_index(
    database: Database, empty_database: Database, cache: Path
) -> None:
    plant_shop(database, normalised=True)
    with Recommender(database, index="faiss-flat") as recommender:
        recommender.recommend(1)
        before = [path.read_bytes() for path in index_files(cache)]
        assert len(before) == 1
        with database.connect() as connection:
            rows = connection.execute("SELECT array_agg(book_id) FROM tterec.books").fetchone()
            assert rows is not None
            plant(connection, random_vectors(rows[0], [1], dim=32, seed=9))
        with Recommender(database) as plain:
            assert shown(recommender.recommend(1)) == shown(plain.recommend(1))
    assert [path.read_bytes() for path in index_files(cache)] != before


def test_a_damaged_file_is_built_again(database: Database, cache: Path) -> None:
    plant_shop(database, normalised=True)
    with Recommender(database, index="faiss-hnsw") as recommender:
        wanted = recommender.recommend(1)
    (path,) = index_files(cache)
    whole = path.read_bytes()
    path.write_bytes(whole[:1000] + bytes([whole[1000] ^ 255]) + whole[1001:])
    with Recommender(database, index="faiss-hnsw") as recommender:
        assert recommender.recommend(1) == wanted
    assert len(path.read_bytes()) == len(whole)


def test_an_unknown_index_is_refused(database: Database) -> None:
    with pytest.raises(errors.InvalidArgument, match="faiss-ivfpq"):
        Recommender(database, index="annoy")


def run(database: Database, cache: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tterec", *arguments],
        env={
            **os.environ,
            "TTEREC_DATABASE_URL": database.url,
            "TTEREC_HOME": str(cache.parent),
        },
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


@pytest.fixture
def shop(database: Database, cache: Path) -> Database:
    plant_shop(database, normalised=True)
    return database


def test_the_command_takes_an_index(shop: Database, cache: Path) -> None:
    plain = run(shop, cache, "recommend", "1", "--format", "csv")
    found = run(shop, cache, "recommend", "1", "--format", "csv", "--index", "faiss-flat")
    assert (found.returncode, found.stdout) == (0, plain.stdout)
    refused = run(shop, cache, "recommend", "--all", "--index", "faiss-flat")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "leave out --index" in refused.stderr


def test_bench_index_shows_every_setting_and_names_the_fastest(
    shop: Database, cache: Path, tmp_path: Path
) -> None:
    picture = tmp_path / "curve.png"
    done = run(shop, cache, "bench-index", "--users", "20", "--plot", str(picture))
    assert done.returncode == 0, done.stderr
    for name in ("pgvector", *KINDS):
        assert name in done.stdout
    assert "Fastest with recall@10 of at least 0.95" in done.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_bench_index_says_what_cannot_be(shop: Database, cache: Path) -> None:
    beyond = run(shop, cache, "bench-index", "--recall", "1.5")
    assert (beyond.returncode, beyond.stdout) == (1, "")
    assert "--recall" in beyond.stderr
    nowhere = run(
        shop, cache, "bench-index", "--index", "faiss-flat", "--users", "3", "--plot", "/no/such/x"
    )
    assert nowhere.returncode == 1
    assert "Traceback" not in nowhere.stderr
