"""Every text that reaches SQL is a value there, or a name; never a part of the statement."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from psycopg import sql

from tests.integration.generations import plant, random_vectors
from tests.integration.test_surfaces import assert_same, by_sql
from tests.integration.test_train import CONFIG
from tterec import Filters, Recommender, pipeline, updating
from tterec.database.connection import Database

INJECTIONS = [
    *("'", "''", '"', '""', "\\", "\\'", "';", "'; DROP SCHEMA tterec CASCADE; --", "$$", "$1"),
    *("%s", "%(x)s", "%%", "{0}", "{}", "NULL", "/*", "*/", "--", "E'\\x41'", "U&'\\0041'", "\\N"),
    *("ş İ ß", "e\u0301", "\U0001f600", "\u202e", "\ufeff", "a,b", "{a,b}", "(1,2)", ":x", "@x"),
    *(
        "'||(SELECT 1)||'",
        "1) OR (1=1",
        "x' = ANY('{x}",
        "') UNION SELECT 1 --",
        "\t",
        "\r",
        "=1+1",
    ),
]
TEXTS = st.sampled_from(INJECTIONS) | st.text(
    st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12
)
NAMES = [
    'a"b',
    "a'b; --",
    "%s",
    "%(x)s {0}",
    "Größe µ",
    "SELECT",
    "two words",
    "\\",
    "$1",
    "\U0001f600",
    "n" * 63,
    "ü" * 31,
]


def counts(database: Database) -> tuple[object, ...]:
    with database.connect() as connection:
        row = connection.execute(
            "SELECT (SELECT count(*) FROM tterec.books), (SELECT count(*) FROM tterec.users),"
            " (SELECT count(*) FROM pg_class WHERE relnamespace = 'tterec'::regnamespace)"
        ).fetchone()
    assert row is not None
    return row


@settings(
    max_examples=6,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@example(INJECTIONS)
@given(st.lists(TEXTS, min_size=3, max_size=30))
def test_isbns_titles_authors_and_publishers_come_back_as_they_went_in(
    database: Database, tmp_path: Path, texts: list[str]
) -> None:
    with database.connect() as connection:
        connection.execute("TRUNCATE tterec.books, tterec.users, tterec.ratings CASCADE")
    files = {name: tmp_path / f"{name}.csv" for name in ("books", "ratings")}
    for name, path in files.items():
        with path.open("w", encoding="utf-8", newline="") as file:
            out = csv.writer(file)
            if name == "books":
                out.writerow(["ISBN", "Book-Title", "Book-Author", "Publisher"])
                out.writerows((f"{n}{text}", text, text, text) for n, text in enumerate(texts))
            else:
                out.writerow(["User-ID", "ISBN", "Book-Rating"])
                out.writerows((1, f"{n}{text}", 7) for n, text in enumerate(texts[:2]))
    pipeline.load(database, **files)
    with database.connect() as connection:
        books = connection.execute(
            "SELECT book_id, isbn, title, author FROM tterec.books ORDER BY book_id"
        ).fetchall()
        assert len(books) == len(texts)
        plant(connection, random_vectors([one[0] for one in books], [1]))  # type: ignore[arg-type]
    before = counts(database)
    with database.connect() as connection, Recommender(database) as recommender:
        for _, isbn, title, author in books:
            near = by_sql(connection, "similar_books(%s, 50)", isbn)
            assert_same(near, [asdict(one) for one in recommender.similar(isbn, 50)])
            assert len(near) == len(books) - 1
            (mine,) = by_sql(
                connection, "recommend(1, 50, false, only_isbns => ARRAY[%s::text])", isbn
            )
            assert (mine["isbn"], mine["title"]) == (isbn, title)
            only = recommender.recommend(1, 50, False, filters=Filters(only_isbns={isbn}))
            assert [one.isbn for one in only] == [isbn]
            assert recommender.score(1, isbn) == pytest.approx(only[0].score, abs=1e-5)
            if author is None:
                continue
            filters = Filters(author=author, publisher=author, without_isbns={isbn})
            found = by_sql(
                connection,
                "recommend(1, 50, false, author => %s, publisher => %s,"
                " without_isbns => ARRAY[%s::text])",
                *(author, author, isbn),
            )
            alike = connection.execute(
                "SELECT count(*) FROM tterec.books WHERE isbn <> %s"
                " AND lower(btrim(author)) = lower(btrim(%s))",
                (isbn, author),
            ).fetchone()
            assert alike == (len(found),)
            python = recommender.recommend(1, 50, False, filters=filters)
            assert_same(found, [asdict(one) for one in python])
        isbns = [one[1] for one in books][:20]
        assert_same(
            by_sql(connection, "recommend_for_books(%s, NULL, 50)", isbns),
            [asdict(one) for one in recommender.recommend_for_books(isbns, None, 50)],
        )
    assert counts(database) == before


def test_columns_of_a_shops_queries_may_have_any_name(database: Database, tmp_path: Path) -> None:
    with database.connect() as connection:
        columns = sql.SQL(", ").join(map(sql.Identifier, NAMES))
        connection.execute("CREATE SCHEMA shop")
        for table in ("members", "films"):
            connection.execute(_odd_table(table))
        connection.execute(
            "CREATE TABLE shop.seen AS SELECT DISTINCT m.id AS member, f.id AS film"
            " FROM shop.members m, shop.films f WHERE hashtext(m.id || f.id) % 4 = 0"
        )
        quoted = columns.as_string(connection)
    files = {
        "interactions": "SELECT member AS user_id, film AS item_id, NULL::real AS rating"
        " FROM shop.seen",
        "users": f"SELECT id AS user_id, {quoted} FROM shop.members",
        "items": f"SELECT id AS item_id, {quoted} FROM shop.films",
    }
    paths = {name: tmp_path / f"it's; {name}.sql" for name in files}
    for name, path in paths.items():
        path.write_text(files[name], encoding="utf-8")
    pipeline.train(database, CONFIG, paths)
    profile = dict.fromkeys(NAMES, "it's") | {NAMES[0]: "one"}
    member = "x'y; -- %1"
    with database.connect() as connection, Recommender(database) as recommender:
        listed = by_sql(connection, "recommend_for_profile(%s)", json.dumps(profile))
        assert listed[0]["source"] == "profile"
        python = recommender.recommend_for_profile(profile)
        assert_same(listed, [asdict(one) for one in python])
        mine = by_sql(connection, "recommend(%s)", member)
        assert mine[0]["source"] == "history"
        assert_same(mine, [asdict(one) for one in recommender.recommend(member)])
        film = str(mine[0]["isbn"])
        assert by_sql(connection, "similar_books(%s)", film)
        score = connection.execute("SELECT tterec.score(%s, %s)", (member, film)).fetchone()
        assert score == (pytest.approx(mine[0]["score"], abs=1e-5),)
    command = [sys.executable, "-m", "tterec", "--database-url", database.url, "recommend"]
    pairs = [f"{name}={value}" for name, value in profile.items()]
    done = subprocess.run(
        [*command, "--format", "json", "--profile", *pairs],
        check=True,
        capture_output=True,
        text=True,
    )
    assert_same(listed, json.loads(done.stdout))
    done = subprocess.run([*command, member, "--format", "json"], check=True, capture_output=True)
    assert_same(mine, json.loads(done.stdout))
    with database.connect() as connection:
        connection.execute(
            sql.SQL("UPDATE shop.films SET {} = 'new; --' WHERE id = %s").format(
                sql.Identifier(NAMES[0])
            ),
            (film,),
        )
    assert updating.update(database).items.changed == 1


def _odd_table(table: str) -> sql.Composed:
    values = sql.SQL(", ").join(
        sql.SQL("(ARRAY['one', 'two', 'it''s'])[n % {} + 1] AS {}").format(
            sql.Literal(2 + i % 2), sql.Identifier(name)
        )
        for i, name in enumerate(NAMES)
    )
    return sql.SQL(
        "CREATE TABLE {} AS SELECT 'x''y; -- %' || n AS id, {} FROM generate_series(1, 40) n"
    ).format(sql.Identifier("shop", table), values)
