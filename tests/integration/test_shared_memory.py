"""A server whose /dev/shm is as small as a container's, for real: it is mounted for its eyes only.

Skipped where no mount namespace may be made.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.benchmarks.kill_commands import COMMANDS, Shop
from tterec import Recommender, pipeline
from tterec.database import system_user
from tterec.database.cluster import Cluster
from tterec.database.connection import Database
from tterec.store import registry

MEGABYTES = 8
_SETTINGS = """
fsync = off
# Several processes read and index small tables, too; not those that seem to be empty (80 kB).
min_parallel_table_scan_size = 96kB
"""
_START = """
import sys; from pathlib import Path; from tterec.database.cluster import Cluster
Cluster(Path(sys.argv[1])).start()
"""


class Small(NamedTuple):
    """The shop on the server, and how a program is started that sees what the server sees."""

    shop: Shop
    beside: list[str]

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`tterec ARGUMENTS` on the server's computer."""
        command = [sys.executable, "-m", "tterec", *arguments]
        return subprocess.run(
            [*self.beside, *command, "--database-url", self.shop.database.url],
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(scope="module")
def small() -> Iterator[Small]:
    mount = f"mount -t tmpfs -o size={MEGABYTES}m,mode=1777 tmpfs /dev/shm"
    if shutil.which("unshare") is None or shutil.which("nsenter") is None:
        pytest.skip("there is no unshare here: no server can have a /dev/shm of its own")
    unshare = ["unshare", "--mount", "sh", "-c"]
    tried = subprocess.run([*unshare, mount], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"no server can have a /dev/shm of its own here: {tried.stderr.strip()}")
    folder = Path(tempfile.mkdtemp(prefix="tterec-test-"))
    system_user.open_home(folder)
    cluster = Cluster(folder)
    cluster.create()
    with (cluster.directory / "postgresql.conf").open("a", encoding="utf-8") as file:
        file.write(_SETTINGS)
    start = [sys.executable, "-c", _START, str(folder)]
    subprocess.run([*unshare, f'{mount} && exec "$@"', "sh", *start], check=True)
    try:
        postmaster = cluster.postmaster()
        assert postmaster is not None
        database = Database(cluster.address.url("postgres"))
        pipeline.upgrade(database)
        with tempfile.TemporaryDirectory() as files:
            shop = Shop(database, Path(files))
            shop.plant()
            yield Small(shop, ["nsenter", f"--target={postmaster.pid}", "--mount", "--"])
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def trained(small: Small) -> subprocess.CompletedProcess[str]:
    """The training that made the live generation."""
    return small.run(*COMMANDS["train"].arguments(small.shop))


def mends(said: str) -> list[str]:
    """The statements that the doctor names for psql."""
    return re.findall(r"psql: (.*)$", said, re.MULTILINE)


def live(small: Small) -> int | None:
    with small.shop.database.connect() as connection:
        connection.execute("SET max_parallel_workers_per_gather = 0")
        return registry.live(connection)


def execute(small: Small, *statements: str) -> None:
    with small.shop.database.connect(autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def test_one_process_builds_the_index_where_several_cannot(
    small: Small, trained: subprocess.CompletedProcess[str]
) -> None:
    assert trained.returncode == 0, trained.stderr
    assert "Too little shared memory for a parallel index build" in trained.stderr
    assert live(small) == 1
    with Recommender(small.shop.database) as recommender:
        assert len(recommender.recommend(1, 10)) == 10


@pytest.mark.usefixtures("trained")
def test_the_doctor_knows_it_beforehand_and_its_mends_are_some(small: Small) -> None:
    found = small.run("doctor")
    assert found.returncode == 1
    assert re.search(
        r"256 MB of shared memory to build in parallel; /dev/shm has \d MB", found.stdout
    )
    assert re.search(r"up to 24 MB of shared memory; /dev/shm has \d MB", found.stdout)
    assert len(mends(found.stdout)) == 2
    execute(small, *mends(found.stdout))
    assert small.run("doctor").stdout == "no problems\n"
    execute(small, "ALTER DATABASE postgres RESET ALL")


@pytest.mark.usefixtures("trained")
def test_where_nothing_is_left_a_query_says_how_to_go_on(small: Small) -> None:
    COMMANDS["update"].prepare(small.shop)
    fill = "head -c 20000000 /dev/zero > /dev/shm/ballast"
    subprocess.run([*small.beside, "sh", "-c", fill], check=False, stderr=subprocess.DEVNULL)
    for setting in ("parallel_setup_cost", "parallel_tuple_cost"):
        execute(small, f"ALTER DATABASE postgres SET {setting} = 0")
    before, train = live(small), COMMANDS["train"].arguments(small.shop)
    for arguments in (train, ["update"]):
        refused = small.run(*arguments)
        assert refused.returncode == 1
        (line,) = refused.stderr.splitlines()
        assert line.startswith("Error: could not resize shared memory segment")
        assert "a larger /dev/shm (Docker: --shm-size), or" in line
        assert line.endswith(": tterec doctor")
    assert live(small) == before
    found = small.run("doctor")
    assert found.returncode == 1
    assert "/dev/shm has 0 MB free" in found.stdout
    (mend,) = [one for one in mends(found.stdout) if "gather" in one]
    execute(small, mend)
    again = [small.run(*arguments) for arguments in (["update"], train)]
    assert [one.returncode for one in again] == [0, 0], again
