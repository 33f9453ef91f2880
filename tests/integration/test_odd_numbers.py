"""Numbers that are none, or too large: in every entry one clear answer, and nothing half-done."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import psycopg
import pytest
from click.testing import CliRunner, Result

from tests.conftest import create_database, url_of
from tests.integration.generations import plant, plant_books, random_ranker, random_vectors
from tests.integration.test_surfaces import assert_same, by_sql
from tests.integration.test_train import CONFIG, SHOP
from tterec import Filters, Recommender, clustering, errors, pipeline
from tterec.cli import main
from tterec.database.connection import Database

LISTS = (
    "recommend(1, %s)",
    "recommend('1', %s)",
    "recommend(1, %s, min_year => 1960)",
    "recommend(1, %s, strategy => 'weighted-average')",
    "recommend(1, %s, strategy => 'cluster-kmeans')",
    "recommend(1000000, %s)",
    "recommend_for_books('{0000000004}', '{9}', %s)",
    "recommend_for_profile('{\"age\": 30}', %s)",
    "similar_books('0000000004', %s)",
    "popular_books(%s)",
)
PYTHON: tuple[Callable[[Recommender, Any], Any], ...] = (
    lambda r, k: r.recommend(1, k),
    lambda r, k: r.recommend(1, k, filters=Filters(min_year=1960)),
    lambda r, k: r.recommend(1, k, strategy="weighted-average"),
    lambda r, k: r.recommend(1, k, strategy="cluster-kmeans"),
    lambda r, k: dict(r.recommend_many([1], k))[1],
    lambda r, k: r.recommend_for_books(["0000000004"], [9], k),
    lambda r, k: r.recommend_for_profile({"age": 30}, k),
    lambda r, k: r.similar("0000000004", k),
    lambda r, k: r.popular(k),
)
HUGE = (2**31 - 1, 2**31, 2**63 - 1, 2**63, 10**40)


@pytest.fixture(scope="module")
def shop(server: str, template: str) -> Database:
    database = Database(url_of(server, create_database(server, template)))
    with database.connect() as connection:
        connection.execute(SHOP)
    pipeline.train(database, CONFIG)
    clustering.cluster(database, clusters=3)
    return database


def tterec(database: Database, *arguments: object) -> Result:
    """The command, in this process: a real one for each would take half a minute."""
    return CliRunner().invoke(main, ["--database-url", database.url, *map(str, arguments)])


@pytest.mark.parametrize("call", LISTS)
def test_a_huge_k_in_sql_is_the_whole_catalogue(shop: Database, call: str) -> None:
    with shop.connect() as connection:
        everything = by_sql(connection, call.replace("%s", "60"))
        assert len(everything) >= 40
        assert by_sql(connection, call.replace("%s", "2147483647")) == everything
        with pytest.raises(psycopg.errors.UndefinedFunction), connection.transaction():
            by_sql(connection, call.replace("%s", "2147483648"))
        for k in ("-1", "-2147483648"):
            with (
                pytest.raises(psycopg.errors.InvalidParameterValue, match="is negative"),
                connection.transaction(),
            ):
                by_sql(connection, call.replace("%s", k))


@pytest.mark.parametrize("ask", PYTHON)
def test_a_huge_k_in_python_is_the_whole_catalogue_and_no_number_is_refused(
    shop: Database, ask: Callable[[Recommender, Any], Any]
) -> None:
    with Recommender(shop) as recommender:
        everything = ask(recommender, 60)
        for k in HUGE:
            assert ask(recommender, k) == everything
        assert ask(recommender, np.int64(60)) == everything
        for wrong in (-1, -(10**40), 1.5, math.nan, math.inf, "3", None):
            with pytest.raises(errors.InvalidArgument, match="k = "):
                ask(recommender, wrong)


@pytest.mark.parametrize("user", [2**63 - 1, 2**63, -(2**63) - 1, 10**40, "9" * 40, "-0", "1e3"])
def test_an_id_beyond_64_bits_is_of_nobody(shop: Database, user: int | str) -> None:
    with Recommender(shop) as recommender, shop.connect() as connection:
        found = recommender.recommend(user)
        assert {one.source for one in found} == {"popular"}
        assert dict(recommender.recommend_many([user, 1]))[user] == found
        assert recommender.explain(user, "0000000004") == []
        assert recommender.score(user, "0000000004") is None
        named = by_sql(connection, "recommend(%s::text)", str(user))
        assert_same(named, [asdict(one) for one in found])


@pytest.mark.parametrize("user", [None, 1.5, math.nan, math.inf, b"1", [1], "\ud800"])
def test_what_is_no_user_is_refused(shop: Database, user: Any) -> None:
    with Recommender(shop) as recommender:
        for ask in (
            lambda: recommender.recommend(user),
            lambda: list(recommender.recommend_many([1, user])),
            lambda: recommender.score(user, "0000000004"),
        ):
            with pytest.raises(errors.InvalidArgument) as caught:
                ask()
            assert len(str(caught.value).splitlines()) == 1
        assert recommender.recommend(1.0) == recommender.recommend(1)  # type: ignore[arg-type]


def test_ids_of_a_file_and_of_the_command_line_may_be_anything(
    shop: Database, tmp_path: Path
) -> None:
    users = ["1", str(2**63), "-" + "9" * 40, "nan", "1e400", "\u0661", "'; --", "%s"]
    path = tmp_path / "users.csv"
    path.write_text("user_id\n" + "\n".join(users) + "\n", encoding="utf-8")
    done = tterec(shop, "recommend", "--users", path, "-k", 10**30)
    assert done.exit_code == 0, done.stderr
    assert {line.split(",")[0] for line in done.stdout.splitlines()[1:]} == set(users)
    for arguments in (
        ("recommend", "--", "-99999999999999999999999"),
        ("recommend", 10**30, "-k", 3),
        ("similar", "0000000004", "-k", 2**70),
    ):
        done = tterec(shop, *arguments)
        assert done.exit_code == 0, done.stderr
    for arguments, code in (
        (("recommend", 1, "-k", -1), 1),
        (("recommend", 1, "-k", "nan"), 2),
        (("recommend", "1\udcff"), 1),
        (("similar", "\udcff"), 1),
        (("recommend", 1, "--author", "\udcff"), 1),
        (("recommend", 1, "--min-year", 10**20), 1),
        (("recommend", "--profile", "age=1e400"), 1),
        (("recommend", "--profile", "location=\udcff"), 0),
        (("explain", "\udcff", "0000000004"), 1),
        (("models", "show", 10**30), 1),
        (("models", "promote", 2**31), 1),
        (("models", "show", "--", -1), 1),
        (("cluster", "--clusters", 10**30), 1),
        (("train", "--seed", 10**30), 1),
        (("train", "--dim", -1), 1),
        (("worker", "--poll", "nan"), 1),
        (("evaluate", "--relevant-from", "nan"), 1),
        (("load", "--users", "\udcff.csv"), 1),
    ):
        done = tterec(shop, *arguments)
        assert done.exit_code == code, (arguments, done.stderr)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        if code == 1:
            assert len(done.stderr.splitlines()) == 1, done.stderr


@pytest.mark.parametrize("rating", [math.nan, math.inf, -math.inf, -1, 10.5, 1e300])
def test_a_rating_that_is_none_is_refused_in_sql_python_and_the_table(
    shop: Database, rating: float
) -> None:
    with shop.connect() as connection, Recommender(shop) as recommender:
        for ratings in ("ARRAY[%s::float8]::real[]", "ARRAY[%s::real]"):
            with (
                pytest.raises(psycopg.Error, match=r"not between 0 and 10|out of range"),
                connection.transaction(),
            ):
                by_sql(connection, f"recommend_for_books('{{0000000004}}', {ratings})", rating)
        with pytest.raises(psycopg.Error), connection.transaction():
            connection.execute(
                "INSERT INTO tterec.ratings (user_id, book_id, rating) VALUES (5, 60, %s)",
                (rating,),
            )
        with pytest.raises(errors.InvalidArgument, match="not between 0 and 10"):
            recommender.recommend_for_books(["0000000004"], [rating])
        with pytest.raises(errors.InvalidArgument, match="isbns is one text; pass a list"):
            recommender.recommend_for_books("0000000004")
        with pytest.raises(errors.InvalidArgument, match="isbns holds what is not a text"):
            recommender.recommend_for_books(["0000000004", 4])  # type: ignore[list-item]


@pytest.mark.parametrize("type_", ["real", "double precision", "numeric", "integer"])
def test_a_shops_odd_ratings_are_refused_by_training_and_unrated_in_lists(
    database: Database, tmp_path: Path, type_: str
) -> None:
    """A row that comes after the training must not leave its user without any list."""
    odd = ["NaN", "Infinity", "-Infinity", "-1", "11", "1e30"]
    if type_ == "integer":
        odd = ["-1", "11", "2147483647"]
    with database.connect() as connection:
        books = plant_books(connection, 200)
        connection.execute(f"CREATE TABLE seen (u bigint, b bigint, r {type_})".encode())
        connection.execute(
            "INSERT INTO seen SELECT 1, n, nullif(n % 11, 0) FROM generate_series(1, 20) n"
        )
    paths = {"interactions": tmp_path / "interactions.sql"}
    paths["interactions"].write_text("SELECT u AS user_id, b AS item_id, r AS rating FROM seen")
    pipeline.train(database, CONFIG, paths)
    with database.connect() as connection:
        plant(connection, random_vectors(books, [1]), ranker=random_ranker(books))
    with database.connect(autocommit=True) as connection, Recommender(database) as recommender:
        for number, rating in enumerate(odd):
            connection.execute("INSERT INTO seen VALUES (1, %s, NULL)", (100 + number,))
            unrated = by_sql(connection, "recommend(1)")
            connection.execute(
                f"UPDATE seen SET r = %s::{type_} WHERE b = %s".encode(), (rating, 100 + number)
            )
            found = by_sql(connection, "recommend(1)")
            assert found == unrated, rating
            assert_same(found, [asdict(one) for one in recommender.recommend(1)])
            many = dict(recommender.recommend_many([1]))[1]
            assert_same(found, [asdict(one) for one in many])
            isbn = str(found[0]["isbn"])
            score = connection.execute("SELECT tterec.score(1, %s)", (isbn,)).fetchone()
            assert score == (pytest.approx(found[0]["score"], abs=1e-5),)
            assert by_sql(connection, "popular_books(3)")
    with pytest.raises(errors.SourceError, match="outside 0 to 10"):
        pipeline.train(database, CONFIG)


@pytest.mark.parametrize("upgraded", [False, True])
def test_a_shops_ids_that_are_null_are_refused_by_training_and_count_for_nothing_later(
    database: Database, tmp_path: Path, upgraded: bool
) -> None:
    """One of a user's would empty their list, and end an update; a guest's order has no user."""
    with database.connect() as connection:
        connection.execute("CREATE TABLE seen (u bigint, b bigint, r real)")
        connection.execute("CREATE TABLE films AS SELECT n AS id FROM generate_series(1, 60) n")
        connection.execute(
            "INSERT INTO seen SELECT u, 1 + (7 * u + i) % 60, 1 + i % 10"
            " FROM generate_series(1, 40) u, generate_series(1, 8) i"
        )
    paths = {"interactions": tmp_path / "i.sql", "items": tmp_path / "t.sql"}
    paths["interactions"].write_text("SELECT u AS user_id, b AS item_id, r AS rating FROM seen")
    paths["items"].write_text("SELECT id AS item_id, 'Film ' || id AS title FROM films")
    pipeline.train(database, CONFIG, paths)
    if upgraded:  # from a version whose views let them through
        with database.connect() as connection:
            connection.execute("DELETE FROM tterec.schema_state WHERE key = 'own_views'")
            connection.execute(
                "CREATE OR REPLACE VIEW tterec.interactions AS SELECT user_id, item_id, rating,"
                " NULL::timestamptz AS rated_at FROM tterec.source_interactions"
            )
        pipeline.upgrade(database)
    with database.connect(autocommit=True) as connection, Recommender(database) as recommender:
        before = by_sql(connection, "recommend(3)")
        connection.execute("INSERT INTO seen VALUES (3, NULL, 9), (NULL, 5, 9), (NULL, NULL, 9)")
        connection.execute("INSERT INTO films VALUES (NULL)")
        assert by_sql(connection, "recommend(3)") == before
        assert_same(before, [asdict(one) for one in recommender.recommend(3)])
        assert_same(before, [asdict(one) for one in dict(recommender.recommend_many([3]))[3]])
    for command in (["update"], ["worker", "--once"], ["precompute"], ["stats"], ["recommend", 3]):
        done = tterec(database, *command)
        assert done.exit_code == 0, (command, done.exception, done.stderr)
    with pytest.raises(errors.SourceError, match="is NULL in"):
        pipeline.train(database, CONFIG)
