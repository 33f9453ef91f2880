"""Each state that `tterec doctor` finds, brought about for real."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import psycopg
import pytest

from tests.integration.generations import plant_books, random_vectors
from tests.integration.test_own_ids import TYPES, plant_shop
from tterec import pipeline
from tterec.config import TrainingConfig
from tterec.database import doctor, generation_functions, memory, roles, system_user
from tterec.database.cluster import Cluster
from tterec.database.connection import Database
from tterec.database.doctor import Finding
from tterec.store import generations, notices, vector_tables

ROWS = 10_000


def execute(database: Database, *statements: str) -> None:
    with database.connect(autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def problems(database: Database) -> list[Finding]:
    return [finding for finding in doctor.examine(database) if finding.problem]


def only_problem(database: Database) -> Finding:
    found = problems(database)
    assert len(found) == 1, found
    return found[0]


def plant(database: Database, rows: int = ROWS, dim: int = 4) -> str:
    """Make a generation of `rows` random vectors live; its table's name."""
    with database.connect() as connection:
        ids = plant_books(connection, rows)
        generation = generations.begin(connection, TrainingConfig(dim=dim))
        vector_tables.create(connection, generation, random_vectors(ids, dim=dim))
        connection.execute(
            "UPDATE tterec.models SET status = 'ready', dim = %s,"
            " history_weights = array_fill(1::real, ARRAY[12]) WHERE generation = %s",
            (dim, generation),
        )
        generation_functions.create(connection, generation)
        connection.execute(
            "INSERT INTO tterec.active_model (generation) VALUES (%s)", (generation,)
        )
    return f"tterec.item_vectors_{generation}"


def test_a_new_database_has_a_note_and_no_problem(database: Database) -> None:
    assert [finding.problem for finding in doctor.examine(database)] == [False]
    assert doctor.examine(database)[0].mend == "tterec train"


def test_a_live_generation_in_order_has_no_finding(database: Database) -> None:
    plant(database)
    assert doctor.examine(database) == []


def test_an_unreachable_server() -> None:
    finding = only_problem(Database("postgresql://127.0.0.1:1/x"))
    assert "cannot connect" in finding.what
    assert "start the server" in finding.mend


def test_no_pgvector_in_the_database_and_no_schema(empty_database: Database) -> None:
    found = problems(empty_database)
    assert [finding.mend for finding in found] == ["tterec db upgrade", "tterec db upgrade"]
    assert "pgvector is not installed" in found[0].what
    assert "no tterec schema" in found[1].what


def test_no_pgvector_on_the_server(empty_database: Database) -> None:
    name = empty_database.url.split("/")[3].split("?")[0]
    execute(empty_database, f"ALTER DATABASE {name} SET extension_control_path = '/nowhere'")
    finding = problems(empty_database)[0]
    assert finding.what == "this server has no pgvector"
    assert "apt install" in finding.mend


def test_a_pgvector_without_iterative_scans(database: Database) -> None:
    execute(database, "UPDATE pg_extension SET extversion = '0.7.4' WHERE extname = 'vector'")
    finding = only_problem(database)
    assert "0.7.4" in finding.what
    assert "ALTER EXTENSION vector UPDATE" in finding.mend


def test_an_old_schema(database: Database) -> None:
    execute(database, "UPDATE tterec.alembic_version SET version_num = '0000'")
    assert only_problem(database).mend == "tterec db upgrade"


def test_outdated_functions(database: Database) -> None:
    execute(database, "UPDATE tterec.schema_state SET value = '' WHERE key = 'functions_sha256'")
    assert "functions are those of another version" in only_problem(database).what


def test_a_lost_reader_is_a_note_with_the_dbas_line(database: Database) -> None:
    execute(database, f"ALTER ROLE {roles.READER} RENAME TO somebody_else")
    try:
        assert problems(database) == []
        note = doctor.examine(database)[0]
        assert roles.CREATE_READER in note.mend
    finally:
        execute(database, f"ALTER ROLE somebody_else RENAME TO {roles.READER}")


def test_own_tables_that_the_owner_of_the_views_may_not_read(database: Database) -> None:
    plant(database)
    execute(
        database,
        "CREATE ROLE tterec_test_trainer",
        "ALTER VIEW tterec.source_items OWNER TO tterec_test_trainer",
        "GRANT USAGE ON SCHEMA tterec TO tterec_test_trainer",
    )
    try:
        finding = only_problem(database)
        assert "the items query cannot be read by tterec_test_trainer: permission" in finding.what
        assert "SELECT ON TABLE it TO tterec_test_trainer" in finding.mend
        execute(database, "GRANT SELECT ON tterec.books TO tterec_test_trainer")
        assert problems(database) == []
    finally:
        execute(database, "DROP OWNED BY tterec_test_trainer CASCADE")
        execute(database, "DROP ROLE tterec_test_trainer")


def test_large_tables_of_a_shop_without_an_index_are_a_note(database: Database) -> None:
    (uuid,) = (one for one in TYPES if one.name == "uuid")
    with database.connect(autocommit=True) as connection:
        plant_shop(connection, uuid)
        connection.execute("UPDATE tterec.schema_state SET value = 'custom' WHERE key = 'sources'")
    assert [one for one in doctor.examine(database) if "reads all" in one.what] == []
    execute(database, "ALTER TABLE shop.met DROP CONSTRAINT met_pkey")
    (note,) = [one for one in doctor.examine(database) if "reads all" in one.what]
    assert not note.problem
    assert '"shop"."met"' in note.what
    assert "20,000 rows" in note.what
    assert 'CREATE INDEX ON "shop"."met"' in note.mend


@pytest.mark.parametrize("what", ["long", "old"])
def test_a_queue_that_nobody_empties_is_a_note(database: Database, what: str) -> None:
    plant(database, rows=50)
    queued = {
        "long": "SELECT 'item', n, now() FROM generate_series(1, 10000) n",
        "old": "SELECT 'item', 1, now() - interval '3 days'",
    }[what]
    execute(database, "DELETE FROM tterec.changes")
    assert doctor.examine(database) == []
    execute(database, f"INSERT INTO tterec.changes (kind, id, queued_at) {queued}")
    (note,) = doctor.examine(database)
    assert not note.problem
    said = {
        "long": "10,000 changes wait",
        "old": "1 change waits in the queue, the oldest for 72 h",
    }
    assert note.what.startswith(said[what])
    assert "no worker listens" in note.what
    assert "tterec worker" in note.mend
    with database.connect(autocommit=True) as connection:
        notices.listen(connection)  # as a worker does
        found = doctor.examine(database)
    assert [finding.what for finding in found if "no worker" in finding.what] == []
    assert len(found) == (what == "old")
    assert doctor.examine(database) == [note]


def test_a_missing_index_and_its_mend(database: Database) -> None:
    table = plant(database)
    execute(database, f"DROP INDEX {table}_embedding_idx")
    finding = only_problem(database)
    assert "no HNSW index" in finding.what
    execute(database, finding.mend.removeprefix("psql: "))
    assert doctor.examine(database) == []


def test_a_missing_second_index_and_its_mend(database: Database) -> None:
    """As a generation of an earlier version is without it."""
    table = plant(database)
    execute(database, f"DROP INDEX {table}_ivf_idx")
    (note,) = doctor.examine(database)
    assert not note.problem
    assert f"{table} has no second index" in note.what
    assert note.mend == "tterec db upgrade"
    pipeline.upgrade(database)
    assert doctor.examine(database) == []


def test_a_second_index_that_no_upgrade_would_build_is_not_missed(database: Database) -> None:
    """Of vectors that half precision may not hold there is none."""
    table = plant(database)
    execute(database, f"DROP INDEX {table}_ivf_idx")
    execute(database, f"UPDATE {table} SET embedding = '[5000, 0, 0, 0]' WHERE item_id = 1")
    assert doctor.examine(database) == []
    pipeline.upgrade(database)
    assert doctor.examine(database) == []


def test_an_invalid_index_and_its_mend(database: Database) -> None:
    table = plant(database)
    execute(
        database,
        "UPDATE pg_index SET indisvalid = false"
        f" WHERE indexrelid = '{table}_embedding_idx'::regclass",
    )
    finding = only_problem(database)
    assert "not valid" in finding.what
    execute(database, finding.mend.removeprefix("psql: "))
    assert doctor.examine(database) == []


def test_an_index_that_the_planner_does_not_use(database: Database) -> None:
    table = plant(database)
    name = database.url.split("/")[3].split("?")[0]
    execute(database, f"ALTER DATABASE {name} SET enable_indexscan = off")
    finding = only_problem(database)
    assert f"does not use the index {table}_embedding_idx" in finding.what
    assert "enable_indexscan" in finding.mend


def test_a_small_table_needs_no_index(database: Database) -> None:
    plant(database, rows=50)
    name = database.url.split("/")[3].split("?")[0]
    execute(database, f"ALTER DATABASE {name} SET enable_indexscan = off")
    assert doctor.examine(database) == []


def test_vectors_that_are_gone(database: Database) -> None:
    table = plant(database, rows=50)
    execute(database, f"DROP TABLE {table}")
    assert "are gone" in only_problem(database).what


def test_a_cache_that_serving_would_have_otherwise() -> None:
    folder = Path(tempfile.mkdtemp(prefix="tterec-test-"))
    system_user.open_home(folder)
    cluster = Cluster(folder)
    cluster.create()
    settings = cluster.directory / "postgresql.conf"
    own = settings.read_text(encoding="utf-8") + "fsync = off\nhuge_pages = off\n"
    try:
        settings.write_text(own + "shared_buffers = 1MB\n", encoding="utf-8")
        database = Database(cluster.start().url("postgres"))
        pipeline.upgrade(database)
        plant(database)
        (small,) = doctor.examine(database)
        cluster.stop()
        settings.write_text(own + "shared_buffers = 1GB\n", encoding="utf-8")
        cluster.start()
        large = doctor.examine(database)
        with database.connect() as connection:
            row = connection.execute(
                "SELECT current_setting('huge_pages_status', true),"
                " current_setting('shared_memory_size_in_huge_pages')::int"
            ).fetchone()
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)
    assert not small.problem
    assert "shared_buffers holds 1 MB" in small.what
    found = re.search(r"takes (\d+) MB.*SET shared_buffers = '(\d+)MB'", f"{small}")
    assert found is not None
    assert int(found[2]) >= int(found[1]) > 1
    assert row is not None
    if row[0] is None or row[1] < 0:  # Postgres 16, or a system that has none
        assert large == []
        return
    assert [finding.problem for finding in large] == [False]
    assert "1024 MB lies in small pages" in large[0].what
    assert f"vm.nr_hugepages={row[1]}," in large[0].mend


def test_too_little_build_memory_is_a_note_while_publishing_can_raise_it(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(database)
    name = database.url.split("/")[3].split("?")[0]
    execute(database, f"ALTER DATABASE {name} SET maintenance_work_mem = '1MB'")
    (note,) = doctor.examine(database)
    assert not note.problem
    assert "maintenance_work_mem" in note.what
    monkeypatch.setattr(memory, "MOST_BUILD_BYTES", 1 << 20)
    assert only_problem(database).what in note.what
    execute(database, note.mend.removeprefix("psql: "))
    assert doctor.examine(database) == []


def test_build_memory_is_estimated_from_the_books_before_the_first_generation(
    database: Database,
) -> None:
    name = database.url.split("/")[3].split("?")[0]
    with database.connect() as connection:
        plant_books(connection, ROWS)
    execute(database, f"ALTER DATABASE {name} SET maintenance_work_mem = '1MB'")
    whats = [finding.what for finding in doctor.examine(database)]
    assert any("10,000 vectors of 64 dimensions" in what for what in whats)


def test_too_little_shared_memory(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(database, rows=50)
    monkeypatch.setattr(memory, "dev_shm_free", lambda: 64 << 20)  # a container's
    finding = only_problem(database)
    assert "64 MB free" in finding.what
    assert "--shm-size" in finding.mend
    name = database.url.split("/")[3].split("?")[0]
    execute(database, f"ALTER DATABASE {name} SET max_parallel_maintenance_workers = 0")
    assert doctor.examine(database) == []


def test_free_shared_memory_is_known_on_linux() -> None:
    if Path("/dev/shm").is_dir():
        assert memory.dev_shm_free() is not None


@pytest.mark.parametrize(("dim", "m"), [(8, 16), (64, 16), (64, 8)])
def test_the_build_memory_is_what_pgvector_says_it_is(database: Database, dim: int, m: int) -> None:
    rows, notices = 6000, []
    with database.connect() as connection:
        connection.add_notice_handler(lambda notice: notices.append(str(notice.message_primary)))
        connection.execute("SET LOCAL maintenance_work_mem = '2MB'")
        connection.execute("SET LOCAL max_parallel_maintenance_workers = 0")
        connection.execute(f"CREATE TABLE v (embedding vector({dim}))".encode())
        vectors = np.random.default_rng(0).normal(size=(rows, dim))
        with connection.cursor().copy("COPY v FROM STDIN") as copy:
            for vector in vectors:
                copy.write_row([str(vector.tolist())])
        connection.execute(
            f"CREATE INDEX ON v USING hnsw (embedding vector_ip_ops)"
            f" WITH (m = {m}, ef_construction = {2 * m})".encode()
        )
    (notice,) = notices
    fitted = int(notice.split(" after ")[1].split()[0])
    fixed = memory.hnsw_build_bytes(0, dim, m)
    assert (memory.hnsw_build_bytes(fitted, dim, m) - fixed) / (2 << 20) == pytest.approx(
        1, abs=0.04
    )


def test_the_command_exits_1_on_a_problem_and_0_on_notes(
    database: Database, empty_database: Database
) -> None:
    def command(url: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "tterec", "doctor", "--database-url", url],
            check=False,
            capture_output=True,
            text=True,
            env=dict(os.environ),
        )

    well, ill = command(database.url), command(empty_database.url)
    assert (well.returncode, ill.returncode) == (0, 1)
    assert well.stdout.splitlines() == [
        "note: no generation is live: everybody gets popular books",
        "  mend: tterec train",
        "no problems",
    ]
    assert "  mend: tterec db upgrade" in ill.stdout.splitlines()
    assert ill.stderr == "Error: 2 problems found\n"
    with psycopg.connect(empty_database.url) as connection:  # it looked, and left all as it was
        row = connection.execute("SELECT to_regnamespace('tterec')").fetchone()
    assert row == (None,)
