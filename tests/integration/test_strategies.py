"""The simpler methods: SQL, Python and the command line list the same."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import psycopg
import pytest

from tests.integration.generations import plant, plant_books, plant_ratings, random_vectors
from tests.integration.test_surfaces import assert_same, by_sql
from tterec import Filters, Recommender, clustering, errors
from tterec.config import TrainingConfig
from tterec.database.connection import Connection, Database
from tterec.database.roles import READER
from tterec.records import Progress, Strategy
from tterec.store import generations, pruning

BOOKS, USERS, STRANGER = 300, 24, 10**9
HISTORIES = (0, 1, 3, 20, 60, 250)
ALL: tuple[Strategy, ...] = ("weighted-average", "cluster-kmeans", "cluster-gmm", "popular")
SOURCES = {
    "weighted-average": "weighted-average",
    "cluster-kmeans": "cluster",
    "cluster-gmm": "cluster",
    "popular": "popular",
}
BY_STRATEGY = "recommend(%s, strategy => %s, k => %s)"


def plant_shop(database: Database, *, normalised: bool = True) -> int:
    """Books in five clumps, users with histories of all lengths, some without any rating."""
    rng = np.random.default_rng(3)
    with database.connect() as connection:
        books = plant_books(connection, BOOKS)
        for user in range(1, USERS + 1):
            length = HISTORIES[user % len(HISTORIES)]
            read = rng.choice(books, length, replace=False)
            ratings = [None if r > 10 else float(r) for r in rng.integers(0, 13, length)]
            if user > 12:
                ratings = [None] * length if user > 18 else [0.0] * length
            plant_ratings(connection, user, read.tolist(), ratings)
        vectors = random_vectors(books, [USERS + 1], dim=8, normalised=normalised, max_history=50)
        vectors.item_embeddings[:] += 2 * rng.normal(size=(5, 8))[books % 5]
        vectors.item_embeddings[:] /= np.linalg.norm(vectors.item_embeddings, axis=1, keepdims=True)
        if not normalised:
            vectors.item_embeddings[:] *= rng.uniform(0.8, 1.2, (BOOKS, 1))
        generation = plant(connection, vectors, ef_search=400)
        # What an approximate index finds of vectors in clumps is another test's matter.
        connection.execute(f"DROP INDEX tterec.item_vectors_{generation}_embedding_idx".encode())
    return generation


def by_hand(connection: Connection, generation: int, user: int) -> np.ndarray:
    """Σ r·e / Σ r over the newest 50, as the README says it."""
    rows = connection.execute(
        f"SELECT r.rating, v.embedding::real[] FROM tterec.ratings r"
        f" JOIN tterec.item_vectors_{generation} v ON v.item_id = r.book_id"
        f" WHERE user_id = %s ORDER BY rated_at DESC, book_id LIMIT 50".encode(),
        (user,),
    ).fetchall()
    known = [rating for rating, _ in rows if rating is not None]
    mean = sum(known) / len(known) if known else 1.0
    weights = np.array([mean if rating is None else rating for rating, _ in rows])
    if not weights.any():
        weights = np.ones(len(rows))
    return weights @ np.array([vector for _, vector in rows]) / weights.sum()


@pytest.mark.parametrize("normalised", [True, False])
def test_the_surfaces_agree_on_every_strategy(database: Database, normalised: bool) -> None:
    plant_shop(database, normalised=normalised)
    for method in ("kmeans", "gmm"):
        clustering.cluster(database, method, 6)  # type: ignore[arg-type]
    everyone = [*range(1, USERS + 1), STRANGER]
    with database.connect() as connection, Recommender(database) as recommender:
        for strategy in ALL:
            many = dict(recommender.recommend_many(everyone, 70, strategy=strategy))
            for user in everyone:
                python = [asdict(x) for x in recommender.recommend(user, 70, strategy=strategy)]
                assert_same(by_sql(connection, BY_STRATEGY, user, strategy, 70), python)
                assert_same([asdict(one) for one in many[user]], python)
                met = user != STRANGER and HISTORIES[user % len(HISTORIES)]
                assert {one["source"] for one in python} == {
                    SOURCES[strategy] if met else "popular"
                }
                scores = [one["score"] for one in python]
                assert scores == sorted(scores, reverse=True)
                assert len(python) == min(70, BOOKS - (met or 0))


def test_the_average_is_that_of_the_books_weighed_by_rating(database: Database) -> None:
    generation = plant_shop(database)
    with database.connect() as connection:
        for user in (1, 2, 3, 4, 5, 15, 17, 20, 23):
            found = by_sql(connection, BY_STRATEGY, user, "weighted-average", 5)
            expected = by_hand(connection, generation, user)
            for one in found:
                row = connection.execute(
                    f"SELECT embedding::real[] FROM tterec.item_vectors_{generation}"
                    " WHERE item_id = %s".encode(),
                    (one["book_id"],),
                ).fetchone()
                assert row is not None
                assert one["score"] == pytest.approx(np.dot(row[0], expected), abs=1e-5)
                assert one["similarity"] == one["score"]


def test_the_nearest_cluster_comes_first_and_its_popular_books_lead(database: Database) -> None:
    generation = plant_shop(database)
    _, clusters = clustering.cluster(database, "kmeans", 5)
    label = dict(zip(clusters.item_ids.tolist(), clusters.labels.tolist(), strict=True))
    with database.connect() as connection:
        read = connection.execute("SELECT book_id FROM tterec.ratings WHERE user_id = 3").fetchall()
        average = by_hand(connection, generation, 3)
        order = np.argsort(np.linalg.norm(clusters.centres - average, axis=1)).tolist()
        popular = dict(
            connection.execute("SELECT item_id, score FROM tterec.item_popularity").fetchall()
        )
        unread = set(label) - {book for (book,) in read}
        expected = sorted(unread, key=lambda b: (order.index(label[b]), -popular[b], b))
        found = by_sql(connection, BY_STRATEGY, 3, "cluster-kmeans", BOOKS)
        assert [one["book_id"] for one in found] == expected
        assert found[0]["score"] == pytest.approx(popular[expected[0]], abs=1e-5)


def test_books_in_no_cluster_come_last(database: Database) -> None:
    plant_shop(database)
    clustering.cluster(database, "kmeans", 5)
    with database.connect() as connection, Recommender(database) as recommender:
        connection.execute("DELETE FROM tterec.item_clusters WHERE item_id BETWEEN 101 AND 110")
        connection.commit()
        found = by_sql(connection, BY_STRATEGY, 1, "cluster-kmeans", BOOKS)
        assert {one["book_id"] for one in found[-10:]} == set(range(101, 111))
        python = recommender.recommend(1, BOOKS, strategy="cluster-kmeans")
        assert_same(found, [asdict(one) for one in python])
        many = dict(recommender.recommend_many([1], BOOKS, strategy="cluster-kmeans"))
        assert_same(found, [asdict(one) for one in many[1]])


def test_what_was_read_is_listed_only_when_asked_for(database: Database) -> None:
    plant_shop(database)
    clustering.cluster(database, "kmeans", 3)
    with database.connect() as connection, Recommender(database) as recommender:
        for strategy in ("weighted-average", "cluster-kmeans", "popular"):
            call = "recommend(%s, strategy => %s, k => %s, exclude_rated => false)"
            found = by_sql(connection, call, 3, strategy, BOOKS)
            assert len(found) == BOOKS
            python = recommender.recommend(3, BOOKS, exclude_rated=False, strategy=strategy)
            assert_same(found, [asdict(one) for one in python])


@pytest.mark.parametrize("strategy", ALL)
def test_filters_hold_whatever_the_strategy(database: Database, strategy: Strategy) -> None:
    plant_shop(database)
    filters = Filters(only_isbns=tuple(f"{isbn:010}" for isbn in range(3, 90)), min_ratings=2)
    if strategy.startswith("cluster"):
        clustering.cluster(database, "kmeans" if strategy.endswith("kmeans") else "gmm", 3)
    with database.connect() as connection, Recommender(database) as recommender:
        call = "recommend(%s, strategy => %s, k => 30, only_isbns => %s, min_ratings => 2)"
        for user in (1, 2, 3, STRANGER):
            found = by_sql(connection, call, user, strategy, list(filters.only_isbns or ()))
            assert 0 < len(found) <= 30
            assert {one["isbn"] for one in found} <= set(filters.only_isbns or ())
            python = recommender.recommend(user, 30, strategy=strategy, filters=filters)
            assert_same(found, [asdict(one) for one in python])
            many = recommender.recommend_many([user], 30, strategy=strategy, filters=filters)
            assert_same(found, [asdict(one) for one in next(iter(many))[1]])


def test_without_clusters_sql_says_which_command_makes_them(database: Database) -> None:
    plant_shop(database)
    with database.connect(autocommit=True) as connection:
        with pytest.raises(psycopg.Error, match="has no clusters") as refusal:
            by_sql(connection, BY_STRATEGY, 3, "cluster-gmm", 5)
        assert refusal.value.diag.message_hint == "Run: tterec cluster --method gmm"


def test_an_unknown_strategy_is_refused_and_none_is_the_usual_list(database: Database) -> None:
    plant_shop(database)
    with database.connect(autocommit=True) as connection, Recommender(database) as recommender:
        with pytest.raises(psycopg.errors.InvalidParameterValue, match="'magic' is unknown"):
            by_sql(connection, BY_STRATEGY, 3, "magic", 5)
        with pytest.raises(errors.InvalidArgument, match="'magic' is unknown"):
            recommender.recommend(3, strategy="magic")  # type: ignore[arg-type]
        usual = by_sql(connection, "recommend(%s, %s)", 3, 5)
        assert by_sql(connection, BY_STRATEGY, 3, None, 5) == usual
        assert by_sql(connection, "recommend(%s::text, strategy => %s, k => 5)", "3", None) == usual


def test_the_source_says_what_was_known_of_the_user(database: Database) -> None:
    plant_shop(database)
    with database.connect() as connection, Recommender(database) as recommender:
        for user, source in ((3, "history"), (USERS + 1, "profile"), (STRANGER, "popular")):
            assert {one["source"] for one in by_sql(connection, "recommend(%s)", user)} == {source}
            assert {one.source for one in recommender.recommend(user)} == {source}
            said = json.loads(command(database, str(user), "--format", "json").stdout)
            assert {one["source"] for one in said} == {source}


def command(database: Database, *options: str) -> subprocess.CompletedProcess[str]:
    return run(database.url, "recommend", *options)


def run(url: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tterec", "--database-url", url, *words],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def test_the_command_computes_clusters_once_and_says_so(database: Database) -> None:
    generation = plant_shop(database)
    options = ["3", "--strategy", "cluster-kmeans", "--format", "json"]
    first, second = command(database, *options), command(database, *options)
    said = f"Generation {generation} has no clusters by kmeans yet: computing."
    assert first.returncode == 0, first.stderr
    assert said in first.stderr
    assert "clusters, stored." in first.stderr
    assert second.stderr == ""
    with database.connect() as connection:
        found = by_sql(connection, BY_STRATEGY, 3, "cluster-kmeans", 10)
    assert_same(json.loads(first.stdout), found)
    assert_same(json.loads(second.stdout), found)
    everybody = command(database, "--all", "--strategy", "cluster-kmeans", "-k", "3")
    assert len(everybody.stdout.splitlines()) == 1 + 3 * USERS


def test_without_scikit_learn_nothing_is_said_to_be_computed(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant_shop(database)
    monkeypatch.setattr(clustering.fitting, "available", lambda: False)
    said: list[Progress] = []
    with (
        Recommender(database) as recommender,
        pytest.raises(errors.TterecError, match=r"pip install 'tterec\[cluster\]'"),
    ):
        recommender.recommend(3, strategy="cluster-kmeans", progress=said.append)
    assert said == []


def test_who_may_not_write_has_clusters_in_memory(database: Database) -> None:
    plant_shop(database)
    url = database.url + "&options=-c%20default_transaction_read_only%3Don"
    for read_only in (url, database.url + f"&options=-c%20role%3D{READER}"):
        said: list[Progress] = []
        with Recommender(read_only) as recommender:
            for _ in range(2):
                found = recommender.recommend(3, strategy="cluster-kmeans", progress=said.append)
                assert {one.source for one in found} == {"cluster"}
            many = dict(recommender.recommend_many([3], strategy="cluster-kmeans"))
            assert_same([asdict(one) for one in many[3]], [asdict(one) for one in found])
        lines = [one.message for one in said if one.message]
        assert len(lines) == 2
        assert "not stored" in lines[1]
    assert rows(database, "clusters") == 0


def rows(database: Database, table: str) -> Any:
    with database.connect() as connection:
        found = connection.execute(f"SELECT count(*) FROM tterec.{table}".encode()).fetchone()
    return found and found[0]


def test_the_command_cluster_stores_as_many_as_it_is_told(database: Database) -> None:
    generation = plant_shop(database)
    done = run(database.url, "cluster", "--clusters", "4")
    assert done.returncode == 0, done.stderr
    assert f"Generation {generation}: {BOOKS} books in 4 clusters by kmeans" in done.stdout
    again = run(database.url, "cluster", "--method", "gmm", "--clusters", "7")
    assert again.returncode == 0, again.stderr
    assert rows(database, "clusters") == 11
    assert rows(database, "item_clusters") == 2 * BOOKS
    refused = run(database.url, "cluster", "--clusters", "301")
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "301 clusters of 300 books cannot be; choose 1 to 300" in refused.stderr


def test_no_live_generation_is_said(database: Database) -> None:
    with pytest.raises(errors.NoActiveModel):
        clustering.cluster(database)
    with Recommender(database) as recommender:
        assert recommender.recommend(1, strategy="cluster-kmeans") == []


def test_a_pruned_generation_leaves_no_clusters(database: Database) -> None:
    generation = plant_shop(database)
    clustering.cluster(database, "kmeans", 3)
    with database.connect(autocommit=True) as connection:
        for _ in range(2):
            plant(connection, random_vectors(np.arange(1, BOOKS + 1)))
        assert pruning.prune(connection).pruned == [generation]
        for table in ("clusters", "item_clusters", "profile_columns"):
            assert rows(database, table) == 0


def test_a_failed_generation_leaves_no_profile_columns(database: Database) -> None:
    with database.connect(autocommit=True) as connection:
        generation = generations.begin(connection, TrainingConfig(dim=8))
        connection.execute(
            "INSERT INTO tterec.profile_columns (generation, name, kind) VALUES (%s, 'a', 'text')",
            (generation,),
        )
        assert generations.fail(connection, generation)
    assert rows(database, "profile_columns") == 0


def test_lists_keep_a_shop_s_rules(database: Database) -> None:
    from tterec import Rules

    plant_shop(database)
    sold_out: Sequence[str] = [f"{n:010d}" for n in range(1, 151)]
    with Recommender(database) as recommender:
        for strategy in ALL:
            found = recommender.recommend(
                3, strategy=strategy, rules=Rules(unavailable=frozenset(sold_out))
            )
            assert len(found) == 10
            assert not {one.isbn for one in found} & set(sold_out)
