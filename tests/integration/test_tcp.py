"""A server reached by TCP with a password, by a role that is no superuser."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict

from tests.conftest import forget_databases
from tests.integration.test_train import SHOP
from tests.integration.test_tune import TINY
from tterec import errors, pipeline, tuning
from tterec.database import cluster, roles, schema, system_user
from tterec.database.address import Address
from tterec.database.cluster import Cluster
from tterec.database.connection import Database

PASSWORD = "p@ss:w/%rd'#? ü"
_NAMES = count(1)


@pytest.fixture(scope="module")
def tcp() -> Iterator[Address]:
    """A server that listens on 127.0.0.1 and asks for passwords by SCRAM; as superuser."""
    folder = Path(tempfile.mkdtemp(prefix="tterec-tcp-"))
    system_user.open_home(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "_unix_sockets", lambda: False)
        server = Cluster(folder)
        server.create()
        found = server.start()
        with psycopg.connect(found.url("postgres")) as connection:
            connection.execute(
                sql.SQL("CREATE ROLE shop LOGIN PASSWORD {}").format(sql.Literal(PASSWORD))
            )
        yield found
        server.stop()
    shutil.rmtree(folder, ignore_errors=True)


class Shop:
    """A database of the role `shop`, and the environment variables that lead to it."""

    def __init__(self, server: Address, name: str) -> None:
        self.server, self.name = server, name
        place = f"{server.host}:{server.port}/{quote(name, safe='')}"
        self.url = f"postgresql://shop:{quote(PASSWORD, safe='')}@{place}"
        self.by_url = {"TTEREC_DATABASE_URL": self.url}
        self.by_variables = {
            "PGHOST": server.host,
            "PGPORT": str(server.port),
            "PGUSER": "shop",
            "PGPASSWORD": PASSWORD,
            "PGDATABASE": name,
        }

    def as_superuser(self, statement: str) -> None:
        with psycopg.connect(self.server.url(quote(self.name, safe=""))) as connection:
            connection.execute(statement.encode())

    def owned(self) -> Database:
        return Database(self.url)


@pytest.fixture
def shop(tcp: Address, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    """A database that `shop` owns, without pgvector; no role tterec_reader in the cluster."""
    forget_databases(monkeypatch)
    name = f"shop's %d {next(_NAMES)}"
    with psycopg.connect(tcp.url("postgres"), autocommit=True) as connection:
        named = sql.Identifier(name)
        connection.execute(sql.SQL("CREATE DATABASE {} OWNER shop").format(named))
        yield Shop(tcp, name)
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(named))
        connection.execute(f"DROP ROLE IF EXISTS {roles.READER}".encode())


def tterec(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tterec", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | environment,
    )


@pytest.mark.parametrize("way", ["by_url", "by_variables"])
def test_an_owner_migrates_and_is_told_what_a_dba_must_run_for_the_reader(
    shop: Shop, way: str
) -> None:
    environment: dict[str, str] = getattr(shop, way)
    shop.as_superuser("CREATE EXTENSION vector")
    done = tterec("db", "upgrade", **environment)
    assert done.returncode == 0, done.stderr
    assert f"-c '{roles.CREATE_READER}' && tterec db upgrade" in done.stderr
    assert tterec("db", "check", **environment).stdout == "ok\n"
    assert tterec("db", "current", **environment).stdout == f"{schema.HEAD}\n"

    shop.as_superuser(roles.CREATE_READER)
    done = tterec("db", "upgrade", **environment)
    assert done.returncode == 0, done.stderr
    assert "DBA" not in done.stderr
    shop.as_superuser(f"SET ROLE {roles.READER}; SELECT * FROM tterec.users")


def test_a_role_that_may_not_install_pgvector_is_given_the_dbas_command(shop: Shop) -> None:
    done = tterec("db", "upgrade", **shop.by_url)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    with shop.owned().connect() as connection:
        row = connection.execute("SELECT to_regnamespace('tterec')").fetchone()
        assert row == (None,)  # nothing was begun
    obey(done.stderr, shop)
    assert tterec("db", "upgrade", **shop.by_url).returncode == 0


def obey(message: str, shop: Shop) -> None:
    """Run the command that a message gives, letter by letter, as the superuser."""
    found = re.search(r"must run: psql (-d .*)", message)
    assert found is not None
    subprocess.run(
        f"{Cluster(Path('/')).program('psql')} {found[1]}",
        shell=True,
        check=True,
        capture_output=True,
        env=os.environ
        | shop.by_variables
        | {"PGUSER": "postgres", "PGPASSWORD": str(shop.server.password)},
    )


def test_a_role_that_may_not_create_schemas_is_given_the_owners_command(shop: Shop) -> None:
    shop.as_superuser("CREATE EXTENSION vector")
    shop.as_superuser(f'ALTER DATABASE "{shop.name}" OWNER TO postgres')
    done = tterec("db", "upgrade", **shop.by_url)
    assert done.returncode == 1
    obey(done.stderr, shop)
    assert tterec("db", "upgrade", **shop.by_url).returncode == 0


def test_trials_are_kept_where_the_password_has_any_character_and_schemas_need_a_grant(
    shop: Shop,
) -> None:
    shop.as_superuser("CREATE EXTENSION vector")
    pipeline.upgrade(shop.owned())
    with shop.owned().connect() as connection:
        connection.execute(SHOP)
    shop.as_superuser(f'ALTER DATABASE "{shop.name}" OWNER TO postgres')
    with pytest.raises(errors.DatabaseError, match="may not create the schema tterec_tune") as told:
        tuning.tune(shop.owned(), TINY, budget=60, most=1)
    obey(str(told.value), shop)
    tuned = tuning.tune(shop.owned(), TINY, budget=60, most=1)
    assert (tuned.trials, tuned.verdict) == (1, "default")


def test_a_service_file_is_followed(shop: Shop, tmp_path: Path) -> None:
    service = tmp_path / "pg_service.conf"
    lines = [f"{key}={value}" for key, value in conninfo_to_dict(shop.url).items()]
    service.write_text("\n".join(["[books]", *lines, ""]), encoding="utf-8")
    environment = {"PGSERVICEFILE": str(service), "PGSERVICE": "books"}
    assert tterec("db", "current", **environment).stdout == "none\n"


def test_the_printed_url_leads_psql_to_the_same_database(shop: Shop) -> None:
    for environment in (shop.by_url, shop.by_variables):
        url = tterec("db", "url", **environment).stdout.strip()
        done = subprocess.run(
            [Cluster(Path("/")).program("psql"), url, "-Atc", "SELECT current_database()"],
            check=True,
            capture_output=True,
            text=True,
            env=os.environ | {"PGPASSWORD": PASSWORD},
        )
        assert done.stdout == f"{shop.name}\n"


def test_status_of_a_server_shows_no_password(shop: Shop) -> None:
    done = tterec("db", "status", **shop.by_url)
    assert done.returncode == 0, done.stderr
    assert "shop:***@127.0.0.1" in done.stdout
    assert "none; run: tterec db upgrade" in done.stdout


def test_a_refused_connection_is_one_line_with_its_mend_and_without_the_password(
    shop: Shop,
) -> None:
    place = f"{shop.server.host}:{shop.server.port}"
    secret = quote(PASSWORD, safe="")
    cases = {
        f"postgresql://shop:{secret}x@{place}/postgres": "check the user and the password",
        f"postgresql://shop@{place}/postgres": "add the password to the URL",
        f"postgresql://shop:{secret}@{place}/nothing": "create it with: createdb nothing",
        f"postgresql://nobody:{secret}@{place}/postgres": "check the user and the password",
        f"postgresql://shop:{secret}@127.0.0.1:1/postgres": "start the server or correct",
        f"postgresql://shop:{secret}@no.such.host.invalid/d": "correct the host's name",
        f"postgresql://shop:{secret}@/d?host=/nowhere": "start the server or correct",
        f"postgresql://shop:{secret}@{place}/d?sslmode=perhaps": "sslmode",
        f"postgresql://shop:{secret}@{place}/d?w": "cannot be read",
    }
    for url, mend in cases.items():
        done = tterec("db", "current", "--database-url", url)
        assert done.returncode == 1
        assert mend in done.stderr
        assert len(done.stderr.splitlines()) == 1, done.stderr
        for word in (PASSWORD, secret, "ss:w"):
            assert word not in done.stderr


@pytest.mark.parametrize(
    "command", [("config", "show"), ("db", "status"), ("doctor",), ("recommend", "1")]
)
def test_no_command_shows_a_password_however_it_is_given(
    shop: Shop, command: tuple[str, ...]
) -> None:
    encoded = quote(PASSWORD, safe="")
    place = f"{shop.server.host}:{shop.server.port}"
    wrong = {
        "DATABASE_URL": f"postgresql://shop:{encoded}x@{place}/d",
        "TTEREC_DATABASE_URL": f"postgresql://{place}/d?user=shop&p%61ssword={encoded}x",
    }
    unreachable = "127.0.0.1:1"
    given: list[tuple[tuple[str, ...], dict[str, str]]] = [
        *(((), {name: url}) for name, url in wrong.items()),
        (("--database-url", f"postgresql://{unreachable}/d?user=shop&password={encoded}"), {}),
        (("--database-url", f"host=no.such.host.invalid password='{PASSWORD!r}"), {}),
        (("--database-url", f"postgresql://shop:{PASSWORD}@{place}/d"), {}),  # not encoded
        ((), shop.by_variables | {"PGPASSWORD": f"{PASSWORD}x"}),
        ((), shop.by_variables | {"PGPORT": "1"}),
        ((), shop.by_variables | {"PGDATABASE": shop.url}),
    ]
    for flags, environment in given if command[0] in ("config", "db") else given[:2]:
        done = tterec(*command, *flags, **environment)
        said = done.stdout + done.stderr
        assert said
        for word in (PASSWORD, encoded, "ss:w", "ss%3Aw", "rd'#"):
            assert word not in said, (flags, environment)
        assert "Traceback" not in said


def test_a_role_and_a_database_may_have_any_name(tcp: Address, tmp_path: Path) -> None:
    name = "o'd\"d; DROP TABLE x; -- %s {0} ü"
    with psycopg.connect(tcp.url("postgres"), autocommit=True) as connection:
        role, database = sql.Identifier(name), sql.Identifier(f"of {name}")
        connection.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}").format(role, sql.Literal(PASSWORD))
        )
        connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(database, role))
        try:
            encoded = quote(f"of {name}", safe="")
            with psycopg.connect(tcp.url(encoded)) as superuser:
                superuser.execute("CREATE EXTENSION vector")
            place = f"{tcp.host}:{tcp.port}/{encoded}"
            url = f"postgresql://{quote(name, safe='')}:{quote(PASSWORD, safe='')}@{place}"
            pipeline.upgrade(Database(url))
            path = tmp_path / "users.csv"
            path.write_text("user_id\n7\n", encoding="utf-8")
            assert pipeline.load(Database(url), users=path).changed == 1
            assert schema.differences(Database(url)) == []
        finally:
            connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(database))
            connection.execute(sql.SQL("DROP ROLE {}").format(role))
