"""What `tterec stats` says, each figure brought about for real; a replica's: test_replica.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from tests.conftest import url_of
from tests.integration.generations import plant, plant_books, plant_ratings, random_vectors
from tests.integration.test_surfaces import plant_shop
from tests.integration.test_train import CONFIG, FILM_FILES, FILMS, SHOP
from tests.integration.test_update import NEW_BOOK, one, run
from tests.integration.test_worker import worker
from tterec import pipeline, precomputing, updating
from tterec.database import roles
from tterec.database.connection import Database
from tterec.stats import Stats, stats
from tterec.store.counters import FunctionCalls

QUEUED = (
    "INSERT INTO tterec.changes (kind, id, queued_at) VALUES ('item', 1, now() - interval '2 h')"
)


@pytest.fixture
def shop(database: Database) -> Database:
    """A small bookshop with a live generation, whose recall was measured."""
    run(database, SHOP)
    pipeline.train(database, CONFIG)
    return database


def name_of(database: Database) -> str:
    return database.url.split("/")[3].split("?")[0]


def soon(database: Database, done: Callable[[Stats], bool]) -> Stats:
    """The statistics, once that holds: sessions hand their counts over when they end."""
    deadline = time.monotonic() + 20
    while not done(found := stats(database)):
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    return found


def test_a_database_without_a_generation_has_counters_only(database: Database) -> None:
    found = stats(database)
    assert (found.live, found.recall, found.users, found.books) == (None, None, None, None)
    assert found.queue is not None
    assert found.queue.rows == 1  # who has just installed tterec: update everything
    assert found.indexes == []
    assert found.last_update is None


def test_what_came_changed_or_went_is_stale_until_the_update(shop: Database) -> None:
    found = stats(shop)
    assert found.users is not None
    assert found.books is not None
    assert (found.users.stale, found.books.stale) == (0, 0)
    assert found.last_update is None
    run(
        shop,
        NEW_BOOK,
        "UPDATE tterec.books SET title = 'Another' WHERE book_id IN (1, 2)",
        "INSERT INTO tterec.users (user_id) VALUES (7001)",
        "UPDATE tterec.users SET age = 99 WHERE user_id = 1",
        "DELETE FROM tterec.ratings WHERE user_id = 2",
        "DELETE FROM tterec.users WHERE user_id = 2",
    )
    found = stats(shop)
    assert found.users is not None
    assert found.books is not None
    assert (found.users.stale, found.users.total) == (
        3,
        one(shop, "SELECT count(*) FROM tterec.users"),
    )
    assert (found.books.stale, found.books.total) == (3, 61)
    assert found.users.share == pytest.approx(3 / found.users.total)
    updating.update(shop)
    found = stats(shop)
    assert found.users is not None
    assert found.books is not None
    assert (found.users.stale, found.books.stale) == (0, 0)
    assert found.last_update is not None
    assert found.last_update.generation == 1
    assert found.queue is not None
    assert found.queue.rows == 0


def test_a_text_id_that_has_no_number_yet_is_stale(database: Database, tmp_path: Path) -> None:
    run(database, FILMS)
    files = {name: tmp_path / f"{name}.sql" for name in FILM_FILES}
    for name, path in files.items():
        path.write_text(FILM_FILES[name], encoding="utf-8")
    pipeline.train(database, CONFIG, files)
    before = stats(database).books
    assert before is not None
    assert before.stale == 0
    columns = one(
        database,
        "SELECT string_agg(quote_ident(attname), ', ') FROM pg_attribute"
        " WHERE attrelid = 'shop.films'::regclass AND attnum > 0 AND attname <> 'code'",
    )
    run(
        database,
        f"INSERT INTO shop.films (code, {columns})"
        f" SELECT 'newest', {columns} FROM shop.films LIMIT 1",
    )
    after = stats(database).books
    assert after is not None
    assert (after.stale, after.total) == (1, before.total + 1)


def test_a_list_is_stale_where_its_user_has_rated_since(database: Database) -> None:
    plant_shop(database, normalised=True, users=9)
    assert stats(database).lists is None
    made = precomputing.precompute(database, top=20).made
    found = stats(database).lists
    assert found is not None
    assert (found.total, found.stale, found.missing) == (made, 0, 0)
    run(database, "INSERT INTO tterec.ratings (user_id, book_id, rating) VALUES (1, 1499, 9)")
    found = stats(database).lists
    assert found is not None
    assert (found.total, found.stale, found.missing) == (made, 1, 0)
    run(
        database,
        "INSERT INTO tterec.users (user_id) VALUES (77001)",
        "INSERT INTO tterec.ratings (user_id, book_id, rating) VALUES (77001, 1499, 9)",
    )
    found = stats(database).lists
    assert found is not None
    assert (found.total, found.stale, found.missing) == (made, 1, 1)
    table = command(url=database.url).stdout
    assert f"stale lists: 1 of {made} (" in table
    assert "%), 1 user without; run: tterec precompute" in table
    assert max(map(len, table.splitlines())) <= 80


def test_recall_drifts_where_the_index_finds_less_than_it_did(database: Database) -> None:
    plant_shop(database, normalised=True)
    run(
        database,
        """UPDATE tterec.models SET metrics = '{"index": {"k": 20, "recall": 0.99}}'""",
        f"ALTER DATABASE {name_of(database)} SET enable_seqscan = off",
    )
    found = stats(database).recall
    assert found is not None
    assert (found.k, found.users, found.then) == (20, 50, 0.99)
    assert found.now > 0.98
    run(
        database,
        "DROP INDEX tterec.item_vectors_1_embedding_idx",
        "CREATE INDEX item_vectors_1_embedding_idx ON tterec.item_vectors_1"
        " USING hnsw (embedding vector_ip_ops) WITH (m = 2, ef_construction = 4)",
        "UPDATE tterec.models SET ef_search = 1",
    )
    found = stats(database).recall
    assert found is not None
    assert found.now < 0.9


def test_the_queue_and_who_listens(shop: Database) -> None:
    run(shop, "DELETE FROM tterec.changes", QUEUED)
    found = stats(shop)
    assert found.queue is not None
    assert found.queue.rows == 1
    assert found.queue.oldest_seconds == pytest.approx(7200, abs=120)
    assert found.worker_listens is False
    with worker(shop):
        assert stats(shop).worker_listens is True


def test_calls_are_counted_where_that_is_on(shop: Database) -> None:
    found = stats(shop)
    assert found.track_functions == "none"
    assert "track_functions" in found.unseen["functions"]
    with psycopg.connect(shop.url, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name_of(shop)} SET track_functions = 'pl'".encode())
    with psycopg.connect(shop.url, autocommit=True) as connection:
        for _ in range(3):
            connection.execute("SELECT * FROM tterec.recommend_for_books('{0000000004}')")

    def asked(found: Stats) -> list[FunctionCalls]:
        name = "recommend_for_books(text[], …)"
        return [one for one in found.functions or () if one.function == name]

    found = soon(shop, lambda found: bool(asked(found)))
    assert "functions" not in found.unseen
    (counted,) = asked(found)
    assert counted.calls == 3
    assert counted.total_ms >= counted.self_ms > 0


def test_indexes_of_the_live_and_the_previous_generation(database: Database) -> None:
    with database.connect() as connection:
        books = plant_books(connection, 500)
        plant_ratings(connection, 1, [1, 2, 3], [8, 9, None])
        for seed in range(3):
            plant(connection, random_vectors(books, [1], seed=seed))
    before = stats(database)
    assert before.live is not None
    assert (before.live.generation, before.live.previous) == (3, 2)
    assert before.indexes is not None
    assert {one.generation for one in before.indexes} == {2, 3}
    sizes = {one.index: one.bytes for one in before.indexes}
    assert sizes["item_vectors_3_embedding_idx"] > 500 * 16 * 4
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("SET enable_seqscan = off")
        connection.execute("SELECT * FROM tterec.recommend(1, 5)")

    def scanned(found: Stats) -> int:
        return sum(
            one.scans for one in found.indexes or () if one.index == "item_vectors_3_embedding_idx"
        )

    soon(database, lambda found: scanned(found) > 0)


def test_dead_tuples(database: Database) -> None:
    run(database, "ALTER TABLE tterec.books SET (autovacuum_enabled = false)")
    with database.connect() as connection:
        plant_books(connection, 300)
    run(database, "UPDATE tterec.books SET title = 'x'")
    found = soon(
        database,
        lambda found: any(
            (one.table, one.dead) == ("books", 300) for one in found.dead_tuples or ()
        ),
    )
    assert found.dead_tuples is not None
    assert found.dead_tuples[0].table == "books"
    assert found.dead_tuples[0].live == 300


@pytest.fixture
def reader(shop: Database, server: str) -> Iterator[Database]:
    """The shop, as somebody who may only read."""
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE watcher LOGIN IN ROLE {roles.READER}".encode())
    yield Database(url_of(server, name_of(shop)).replace("//postgres@", "//watcher@"))
    with psycopg.connect(shop.url, autocommit=True) as connection:
        connection.execute("DROP OWNED BY watcher")
        connection.execute("DROP ROLE watcher")


def test_a_reader_sees_all_of_it_and_who_may_less_is_told(shop: Database, reader: Database) -> None:
    with reader.connect() as connection:
        assert connection.execute("SELECT current_user").fetchone() == ("watcher",)
    theirs, ours = stats(reader), stats(shop)
    assert theirs.unseen.keys() == {"functions"}
    assert (theirs.users, theirs.books, theirs.recall) == (ours.users, ours.books, ours.recall)
    run(shop, f"REVOKE SELECT ON tterec.changes FROM {roles.READER}")
    theirs = stats(reader)
    assert theirs.queue is None
    assert "permission denied" in theirs.unseen["queue"]
    assert theirs.recall == ours.recall


def test_nothing_is_written(shop: Database) -> None:
    def written() -> object:
        return one(
            shop,
            "SELECT array_agg((relname, n_tup_ins, n_tup_upd, n_tup_del)::text ORDER BY relname)"
            " FROM pg_stat_user_tables WHERE schemaname = 'tterec'",
        )

    time.sleep(1.5)  # for the counts of the training to arrive
    before = written()
    stats(shop)
    time.sleep(1.5)
    assert written() == before


def command(*arguments: str, url: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tterec", "stats", *arguments],
        env={**os.environ, "TTEREC_DATABASE_URL": url},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def test_the_command_writes_a_table_or_json(shop: Database) -> None:
    run(shop, "DELETE FROM tterec.changes", QUEUED, NEW_BOOK)
    table = command(url=shop.url)
    assert (table.returncode, table.stderr) == (0, "")
    assert (
        "recall@100 of the index: 1.0000 on 50 users now, 1.0000 at promotion (+0.0000)"
        in table.stdout
    )
    assert "stale books: 1 of 61 (1.6%); run: tterec update" in table.stdout
    assert "; no worker listens" in table.stdout
    assert "item_vectors_1_embedding_idx" in table.stdout
    assert 'ALTER DATABASE "test_' in table.stdout
    found = json.loads(command("--format", "json", url=shop.url).stdout)
    assert found["books"] == {"total": 61, "stale": 1, "share": round(1 / 61, 6)}
    assert found["queue"]["rows"] == 2
    assert found["live"]["generation"] == 1
