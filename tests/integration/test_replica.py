"""A streaming replica is a complete server: every function answers there, for a mere reader."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest

from tests.integration.generations import plant_ratings
from tests.integration.test_stats import command
from tests.integration.test_surfaces import assert_same, by_sql, plant_shop
from tests.integration.test_user_lists import serves
from tterec import Filters, Recommender, errors, pipeline
from tterec.cli.stats import lines
from tterec.database import programs, system_user
from tterec.database.cluster import Cluster
from tterec.database.connection import Connection, Database
from tterec.database.roles import READER
from tterec.precomputing import precompute
from tterec.stats import stats

USER = 4
CALLS = (
    "recommend(4)",
    "recommend('4')",
    "recommend(4, 5, min_year => 1980, author => 'author 3')",
    "recommend(4, 5, publisher => 'all')",
    "recommend(9)",
    "recommend(1000000)",
    "recommend_for_books(ARRAY['0000000004'], ARRAY[9]::real[])",
    "similar_books('0000000004', min_year => 1980)",
    "popular_books(min_ratings => 2)",
)
"""By history, by profile and unknown; narrow filters and broad ones."""
SCALARS = (
    "SELECT tterec.score(4, '0000000004')",
    "SELECT tterec.score('4', '0000000004')",
    "SELECT sum(contribution) FROM tterec.explain(4, '0000000004')",
    "SELECT tterec.user_vector(4) IS NOT NULL",
    "SELECT count(*) > 0 FROM tterec.live_item_vectors",
)


class Servers(NamedTuple):
    """A server with a published generation, and one that follows it."""

    primary: Database
    replica: Database


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    homes = [Path(tempfile.mkdtemp(prefix="tterec-test-")) for _ in range(2)]
    for home in homes:
        system_user.open_home(home)
    system_user.hand_over(homes[1])  # where pg_basebackup makes the data directory
    first, second = map(Cluster, homes)
    first.create()
    with (first.directory / "postgresql.conf").open("a", encoding="utf-8") as file:
        file.write("wal_level = replica\nmax_wal_senders = 4\nfsync = off\n")
    running = []
    try:
        primary = Database(first.start().url())
        running.append(first)
        with psycopg.connect(first.address.url("postgres"), autocommit=True) as connection:
            connection.execute("CREATE DATABASE tterec")
        pipeline.upgrade(primary)
        plant_shop(primary, normalised=True, users=20, ranker=True)
        with primary.connect() as connection:
            connection.execute(
                "UPDATE tterec.books SET year = 1950 + book_id % 70, publisher = 'All',"
                " author = 'Author ' || book_id % 10"
            )
        said = programs.run(
            first.program("pg_basebackup"),
            *("--host", str(first.directory), "--port", str(first.address.port)),
            *("--username", "postgres", "--pgdata", str(second.directory)),
            *("--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast"),
            directory=first.directory,
        )
        assert said is None, said
        # The embedded server has its socket in its data directory: the copy has its lock, too.
        for lock in second.directory.glob(".s.PGSQL.*"):
            lock.unlink()
        replica = Database(second.start().url())
        running.append(second)
        yield Servers(primary, replica)
    finally:
        for cluster in reversed(running):
            cluster.stop()
        for home in homes:
            shutil.rmtree(home, ignore_errors=True)


def soon(done: Callable[[], bool]) -> bool:
    """Whether it comes true within ten seconds."""
    deadline = time.monotonic() + 10
    while not done():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def as_reader(connection: Connection) -> Connection:
    connection.execute(f"SET ROLE {READER}".encode())
    return connection


def test_every_function_answers_a_reader_as_on_the_primary(servers: Servers) -> None:
    with servers.primary.connect() as primary, servers.replica.connect() as replica:
        assert replica.execute("SELECT pg_is_in_recovery()").fetchone() == (True,)
        as_reader(replica)
        for call in CALLS:
            found = by_sql(replica, call)
            assert found == by_sql(primary, call)
            assert found
        for query in SCALARS:
            found_one = replica.execute(query.encode()).fetchone()
            assert found_one == primary.execute(query.encode()).fetchone()
            assert found_one not in ((None,), (False,))


def test_python_recommends_from_a_replica(servers: Servers) -> None:
    with servers.replica.connect() as replica, Recommender(servers.replica) as recommender:
        filters = Filters(min_year=1980, author="author 3")
        python = [asdict(one) for one in recommender.recommend(USER, 5, filters=filters)]
        assert_same(by_sql(replica, CALLS[2]), python)
        assert recommender.explain(USER, "0000000004")
        many = dict(recommender.recommend_many([USER], 5, filters=filters))
        assert_same([asdict(one) for one in many[USER]], python)


def test_a_rating_committed_on_the_primary_shows_on_the_replica(servers: Servers) -> None:
    with servers.replica.connect(autocommit=True) as replica:
        as_reader(replica)
        best = by_sql(replica, "recommend(4)")[0]["book_id"]
        with servers.primary.connect() as primary:
            primary.execute(
                "INSERT INTO tterec.ratings (user_id, book_id, rating) VALUES (4, %s, 10)", (best,)
            )
        assert soon(lambda: best not in {one["book_id"] for one in by_sql(replica, "recommend(4)")})
        parts = replica.execute(
            "SELECT count(*) FROM tterec.explain(4, '0000000009') WHERE book_id = %s", (best,)
        ).fetchone()
        assert parts == (1,)


def test_statistics_come_from_a_replica(servers: Servers) -> None:
    ours = stats(servers.primary)
    assert soon(lambda: stats(servers.replica).users == ours.users)
    theirs = stats(servers.replica)
    assert theirs.replica
    assert (theirs.live, theirs.books, theirs.recall) == (ours.live, ours.books, ours.recall)
    assert theirs.recall is not None
    assert [one.bytes for one in theirs.indexes or ()] == [one.bytes for one in ours.indexes or ()]
    assert theirs.dead_tuples is None
    assert {"dead_tuples", "worker_listens"} <= theirs.unseen.keys()
    table = command(url=servers.replica.url).stdout.splitlines()
    assert table[1] == "This server is a replica."
    assert theirs.live is not None
    later = replace(theirs, live=replace(theirs.live, generation=123, previous=122))
    assert max(map(len, [*table, *"\n".join(lines(later)).splitlines()])) <= 80


def test_lists_made_on_the_primary_serve_there(servers: Servers) -> None:
    assert precompute(servers.primary).made > 0
    with servers.replica.connect(autocommit=True) as replica:
        as_reader(replica)
        assert soon(lambda: serves(replica, 5))
        with servers.primary.connect() as primary:
            assert by_sql(replica, "recommend(5)") == by_sql(primary, "recommend(5)")
            plant_ratings(primary, 5, [1499], [9.0])
            primary.commit()
            assert soon(lambda: not serves(replica, 5))
            assert_same(by_sql(replica, "recommend(5)"), by_sql(primary, "recommend(5)"))
    with pytest.raises(errors.DatabaseError, match="connect to the primary"):
        precompute(servers.replica)


def test_nothing_is_written_there(servers: Servers) -> None:
    with (
        servers.replica.connect() as replica,
        pytest.raises(psycopg.errors.ReadOnlySqlTransaction),
    ):
        replica.execute("INSERT INTO tterec.users (user_id) VALUES (77)")
