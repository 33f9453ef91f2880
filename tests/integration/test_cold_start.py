"""Lists for somebody who is in no table: SQL and Python each compute the user tower."""

from __future__ import annotations

import json
import subprocess
import sys
import zlib
from collections.abc import Iterator
from dataclasses import asdict
from datetime import date
from typing import Any

import numpy as np
import psycopg
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.conftest import create_database, url_of
from tests.integration.generations import plant, plant_books, random_vectors
from tests.integration.test_surfaces import assert_same, by_sql
from tterec import Recommender, cold_start, encoding, errors, pipeline
from tterec.config import TrainingConfig
from tterec.database.connection import Connection, Database
from tterec.database.roles import READER
from tterec.records import Column, FeatureTable
from tterec.retrieval import pgvector

# A users query with a column of every kind.
USERS = """
SELECT n AS user_id, (18 + n % 50)::int AS age, n % 3 = 0 AS member,
    date '2020-01-01' + n AS since,
    CASE n % 4 WHEN 0 THEN NULL WHEN 1 THEN 'Saint-Étienne, Rhône-Alpes'
        ELSE 'Straße ' || n || ', İzmir' END AS location,
    CASE WHEN n % 5 > 0 THEN ARRAY['Crime', 'Σόλων ' || n % 3] END AS tags,
    ARRAY[n % 7, n % 3, 1]::real[] AS taste
FROM generate_series(1, 60) n
"""
FEATURES = "age, location, member, since, tags, taste"
NASTY = st.text(
    st.characters(exclude_characters="\0", exclude_categories=["Cs"])
    | st.sampled_from(
        "ß\u0130\u0131\u017f\u212a\u212bΣςǅﬃŉΐﷺ_ \t\x85\xa0\u2028\u200b\x1c\u0301'\"\\%&-京é"
    ),
    max_size=80,
)


@pytest.fixture(scope="module")
def trained(server: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Database:
    """A shop whose users have features of every kind, trained for one epoch."""
    database = Database(url_of(server, create_database(server, template)))
    with database.connect() as connection:
        plant_books(connection, 40)
        connection.execute(
            "INSERT INTO tterec.users (user_id) SELECT generate_series(1, 60);"
            "INSERT INTO tterec.ratings (user_id, book_id, rating)"
            " SELECT u, b, (u * b) % 11 FROM generate_series(1, 60) u, generate_series(1, 40) b"
            " WHERE (u * 7 + b * 13) % 5 = 0"
        )
    file = tmp_path_factory.mktemp("queries") / "users.sql"
    file.write_text(USERS)
    config = TrainingConfig(dim=8, epochs=2, threads=1, seed=1)
    pipeline.train(database, config, {"users": file})
    return database


@pytest.fixture(scope="module")
def connection(trained: Database) -> Iterator[Connection]:
    with trained.connect(autocommit=True) as connection:
        yield connection


PROFILES: list[dict[str, Any]] = [
    {"age": 34},
    {"age": 3.5e9, "location": "saint-étienne,   RHÔNE-ALPES "},
    {"age": -(10**300), "member": True, "since": date(1999, 12, 31)},
    {"member": False, "since": date(1, 1, 1), "location": "STRASSE 6, i̇zmir"},
    {"tags": ["crime", "CRIME", "σόλων 1", "unheard of", ""], "taste": [1.5, -2.0, 1e20]},
    {"tags": [], "location": ""},
    {"location": " ".join(f"word{i}" for i in range(200))},
    {"taste": [1e-50, 1e39, 0]},
]


def by_the_towers(database: Database, profile: dict[str, Any]) -> np.ndarray:
    """The vector (d,) that the live user tower itself has for somebody without history."""
    towers = pipeline.load_towers(database)
    kinds = {fitted["name"]: fitted["kind"] for fitted in towers.user_features.columns}
    columns = []
    for name, value in encoding.known_values(kinds, profile).items():
        if kinds[name] in ("text", "text[]"):
            values = np.empty(1, dtype=object)
            values[0] = value
        else:
            # What is infinite to a float32 is unknown.
            with np.errstate(over="ignore"):
                values = np.array(
                    [value], dtype=np.float32 if kinds[name] == "vector" else np.float64
                )
        columns.append(Column(name, kinds[name], values))
    vector = towers.embed_users(FeatureTable(np.zeros(1, np.int64), tuple(columns)))[0]
    unit: np.ndarray = vector / np.linalg.norm(vector)
    return unit


def in_python(database: Database, profile: dict[str, Any]) -> np.ndarray:
    with Recommender(database) as recommender:

        def vector(connection: Connection) -> Any:
            model = pgvector.live_model(connection)
            assert model is not None
            return cold_start.profile_vector(connection, model, profile)

        return recommender._session.ask(vector)


def in_sql(connection: Connection, profile: dict[str, Any]) -> np.ndarray:
    row = connection.execute(
        "SELECT vector::real[] FROM tterec.embed_profile(%s)",
        (json.dumps(profile, default=str),),
    ).fetchone()
    assert row is not None
    return np.array(row[0])


@pytest.mark.parametrize("profile", PROFILES)
def test_sql_python_and_the_towers_embed_a_profile_alike(
    trained: Database, connection: Connection, profile: dict[str, Any]
) -> None:
    by_towers = by_the_towers(trained, profile)
    assert np.abs(by_towers).max() > 0.01
    assert in_python(trained, profile) == pytest.approx(by_towers, abs=1e-5)
    assert in_sql(connection, profile) == pytest.approx(by_towers, abs=1e-5)


@pytest.mark.parametrize("profile", PROFILES)
def test_the_lists_are_the_same_in_sql_and_python(
    trained: Database, connection: Connection, profile: dict[str, Any]
) -> None:
    with Recommender(trained) as recommender:
        python = [asdict(one) for one in recommender.recommend_for_profile(profile, 12)]
    said = json.dumps(profile, default=str)
    assert_same(by_sql(connection, "recommend_for_profile(%s, 12)", said), python)
    assert len(python) == 12
    assert {one["source"] for one in python} == {"profile"}


@settings(max_examples=150, deadline=None)
@example("ẞtraße ﬃ")
@example("ΑΣ ας")
@given(NASTY)
def test_a_text_of_any_kind_is_read_alike(connection: Connection, text: str) -> None:
    row = connection.execute(
        "SELECT tterec.normalised_text(%(text)s), tterec.word_buckets(tterec.normalised_text("
        "%(text)s), 32768)",
        {"text": text},
    ).fetchone()
    assert row is not None
    plain = (encoding.normalised([text]) or ("",))[0]
    assert row[0] == plain
    assert sorted(row[1]) == encoding.word_buckets([plain], 32768)


def test_every_character_is_read_alike(connection: Connection) -> None:
    # All of the two planes that hold the scripts with case; of the others some.
    codes = [*range(1, 0xD800), *range(0xE000, 0x20000), *range(0x20000, 0x110000, 41)]
    texts = [".".join(map(chr, codes[start : start + 40])) for start in range(0, len(codes), 40)]
    rows = connection.execute(
        "SELECT tterec.normalised_text(text), tterec.word_buckets(text, 32768)"
        " FROM unnest(%s::text[]) WITH ORDINALITY AS u (text, n) ORDER BY n",
        (texts,),
    ).fetchall()
    assert [row[0] for row in rows] == [" ".join(text.casefold().split()) for text in texts]
    assert [sorted(row[1]) for row in rows] == [
        encoding.word_buckets([text], 32768) for text in texts
    ]


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40))
@settings(max_examples=60, deadline=None)
def test_the_checksum_is_that_of_zlib(connection: Connection, text: str) -> None:
    row = connection.execute("SELECT tterec.crc32_of(%s)", (text,)).fetchone()
    assert row == (zlib.crc32(text.encode()),)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"shoe_size": 43}, f"no feature 'shoe_size'; it knows: {FEATURES}"),
    ({"shoe_size": None}, "no feature 'shoe_size'"),
    ({"age": "thirty"}, "age = .thirty. is not a number"),
    ({"age": True}, "is not a number"),
    ({"age": 10**400}, "is not a number"),
    ({"member": 1}, "member = 1 is not true or false"),
    ({"since": 7}, "since = 7 is not a date"),
    ({"location": 7}, "location = 7 is not a text"),
    ({"tags": "crime"}, "tags = .crime. is not a list of texts"),
    ({"tags": ["crime", 3]}, "is not a list of texts"),
    ({"tags": [None]}, "is not a list of texts"),
    ({"taste": ["x", "y", "z"]}, "is not a list of numbers"),
    ({"taste": [1, 2]}, "taste has 2 numbers, training saw 3"),
]


@pytest.mark.parametrize(("profile", "said"), WRONG)
def test_unknown_and_mistyped_features_are_named_and_refused(
    trained: Database, connection: Connection, profile: dict[str, Any], said: str
) -> None:
    with Recommender(trained) as recommender, pytest.raises(errors.InvalidArgument, match=said):
        recommender.recommend_for_profile(profile)
    with pytest.raises(psycopg.errors.InvalidParameterValue, match=said):
        by_sql(connection, "recommend_for_profile(%s)", json.dumps(profile))


@pytest.mark.parametrize(
    "profile",
    ["[1]", '"age"', '{"since": "2023-02-29"}', '{"since": "0000-01-01"}', '{"since": "x"}'],
)
def test_what_only_json_can_have_is_refused_too(connection: Connection, profile: str) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        by_sql(connection, "recommend_for_profile(%s)", profile)


@pytest.mark.parametrize("profile", [{}, {"age": None}, {"age": None, "tags": None}])
def test_who_is_unknown_in_every_respect_gets_popular_books(
    trained: Database, connection: Connection, profile: dict[str, None]
) -> None:
    with Recommender(trained) as recommender:
        python = [asdict(one) for one in recommender.recommend_for_profile(profile)]
    assert {one["source"] for one in python} == {"popular"}
    assert_same(by_sql(connection, "recommend_for_profile(%s)", json.dumps(profile)), python)


def test_a_profile_of_null_is_empty(connection: Connection) -> None:
    assert by_sql(connection, "recommend_for_profile(NULL, 2)")[0]["source"] == "popular"


def test_a_reader_may_ask_in_a_read_only_transaction(trained: Database) -> None:
    with trained.connect() as connection:
        connection.execute(f"SET ROLE {READER}".encode())
        connection.execute("SET TRANSACTION READ ONLY")
        assert len(by_sql(connection, "recommend_for_profile(%s)", PROFILES_AS_JSON)) == 10


PROFILES_AS_JSON = '{"age": 34, "location": "saint-étienne", "since": "2020-02-03T10:00:00"}'


def test_without_a_generation_books_are_popular(database: Database) -> None:
    with database.connect() as connection, Recommender(database) as recommender:
        plant_books(connection, 3)
        connection.commit()
        assert len(by_sql(connection, "recommend_for_profile(%s)", '{"age": 3}')) == 3
        assert len(recommender.recommend_for_profile({"age": 3})) == 3


def test_a_generation_of_an_older_version_says_train(database: Database) -> None:
    with database.connect(autocommit=True) as connection, Recommender(database) as recommender:
        generation = plant(connection, random_vectors(plant_books(connection, 5)))
        said = "none"
        with pytest.raises(psycopg.Error, match=f"it knows: {said}"):
            by_sql(connection, "recommend_for_profile(%s)", '{"age": 3}')
        connection.execute(f"DROP TABLE tterec.profile_tokens_{generation}".encode())
        with pytest.raises(psycopg.Error, match=r"older tterec.*run: tterec train"):
            by_sql(connection, "recommend_for_profile(%s)", '{"age": 3}')
        with pytest.raises(errors.UnknownGeneration, match=r"older tterec.*run: tterec train"):
            recommender.recommend_for_profile({"age": 3})


def command(database: Database, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tterec", "--database-url", database.url, *arguments],
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def test_the_command_takes_features(trained: Database, connection: Connection) -> None:
    given = ["age=34", "location=Saint-Étienne, rhône-alpes", "tags=crime, σόλων 1", "member=yes"]
    given += ["since=2020-02-29", "taste=1,2.5,3"]
    profile = {
        "age": 34,
        "location": "Saint-Étienne, rhône-alpes",
        "tags": ["crime", "σόλων 1"],
        "member": True,
        "since": "2020-02-29",
        "taste": [1, 2.5, 3],
    }
    expected = by_sql(connection, "recommend_for_profile(%s, 5)", json.dumps(profile))
    repeated = [part for pair in given for part in ("--profile", pair)]
    for options in (repeated, ["--profile", *given]):
        done = command(trained, "recommend", *options, "-k", "5", "--format", "json")
        assert done.returncode == 0, done.stderr
        assert_same(json.loads(done.stdout), expected)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--profile", "shoe_size=43"], f"no feature 'shoe_size'; it knows: {FEATURES}"),
        (["--profile", "age=old"], "age=old is not a number; write a number, or leave it out"),
        (["--profile", "age=nan"], "age=nan is not a number"),
        (["--profile", "member=perhaps"], "member=perhaps is not true or false"),
        (["--profile", "since=2023-02-29"], "since=2023-02-29 is not a date"),
        (["--profile", "taste=1"], "taste has 1 numbers, training saw 3"),
        (["--profile", "age=3", "--profile", "age=4"], "names age twice"),
        (["--profile", "age=3", "123"], "123 is not NAME=VALUE"),
        (["--profile", "age=3", "--all"], "name one user"),
        (["--profile", "age=3", "--strategy", "popular"], "leave out --profile"),
        (["1", "2"], "1 2 are 2 users; name one"),
        ([], "name one user"),
    ],
)
def test_the_command_names_what_it_refuses(
    trained: Database, options: list[str], said: str
) -> None:
    done = command(trained, "recommend", *options)
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_no_torch_is_imported_for_a_profile(trained: Database) -> None:
    code = (
        "import sys; from tterec import Recommender;"
        f"list = Recommender({trained.url!r}).recommend_for_profile({{'age': 34}});"
        "assert list[0].source == 'profile';"
        "assert not {'torch', 'pandas', 'scipy', 'sklearn', 'sqlalchemy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
