"""`tterec db`, `tterec doctor` and `tterec config` as a user on a fresh machine types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from tterec.database import schema


def tterec(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tterec", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        env=dict(os.environ),
    )


def lines_of(status: str) -> dict[str, str]:
    return dict(line.split(maxsplit=1) for line in status.splitlines())


def test_the_embedded_database_from_nothing_to_stopped(home: Path) -> None:
    before = lines_of(tterec("db", "status").stdout)
    assert before["database"] == "embedded Postgres, stopped"
    assert not (home / "postgres").exists()  # asking for the status starts nothing

    upgraded = tterec("db", "upgrade")
    assert (upgraded.returncode, upgraded.stdout) == (0, "")
    assert upgraded.stderr == f"The schema is at {schema.HEAD} now (before: none).\n"
    again = tterec("db", "upgrade")
    assert again.returncode == 0
    assert "already" in again.stderr
    assert tterec("db", "current").stdout == f"{schema.HEAD}\n"
    assert tterec("db", "check").stdout == "ok\n"

    running = lines_of(tterec("db", "status").stdout)
    assert "running, pid" in running["database"]
    assert running["home"] == str(home)
    assert Path(running["log"]).read_text().count("ready to accept connections") == 1
    assert running["schema"] == schema.HEAD
    assert running["pgvector"] >= "0.8"
    assert running["url"] == tterec("db", "url").stdout.strip()

    stopped = tterec("db", "stop")
    assert (stopped.returncode, stopped.stdout) == (0, "")
    assert stopped.stderr == "The embedded Postgres is stopped.\n"
    assert lines_of(tterec("db", "status").stdout)["database"].endswith("stopped")
    assert tterec("db", "stop").stderr == "The embedded Postgres did not run.\n"
    started = tterec("db", "start")
    assert (started.returncode, started.stdout) == (0, "")
    assert tterec("db", "current").stdout == f"{schema.HEAD}\n"


def test_check_lists_differences_and_exits_1(home: Path) -> None:
    assert tterec("db", "check").returncode == 1  # there is no schema yet
    tterec("db", "upgrade")
    with psycopg.connect(tterec("db", "url").stdout.strip()) as connection:
        connection.execute("ALTER TABLE tterec.books DROP COLUMN publisher CASCADE")
    done = tterec("db", "check")
    assert done.returncode == 1
    assert "publisher" in done.stdout
    assert done.stderr.startswith("Error: ")
    assert len(done.stderr.splitlines()) == 1
    assert tterec("doctor").returncode == 1


def test_the_url_of_a_database_of_the_embedded_server_means_that_server(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert tterec("db", "start").returncode == 0
    url = tterec("db", "url").stdout.strip().replace("/tterec?", "/tterec_demo?")
    monkeypatch.setenv("TTEREC_DATABASE_URL", url)
    stopped = tterec("db", "stop")
    assert (stopped.returncode, stopped.stderr) == (0, "The embedded Postgres is stopped.\n")
    started = tterec("db", "start")
    assert started.returncode == 0, started.stderr
    assert "runs, pid" in started.stderr


@pytest.mark.parametrize("command", ["start", "stop"])
def test_another_server_is_not_started_or_stopped(home: Path, command: str) -> None:
    done = tterec("db", command, "--database-url", "postgresql://u:secret@127.0.0.1:1/d")
    assert done.returncode == 1
    assert "--database-url names a server" in done.stderr
    assert "secret" not in done.stderr
    assert not list(home.iterdir())


def test_config_shows_settings_and_origins_as_table_and_json(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://shop:secret@db.example/books")
    shown = {setting["name"]: setting for setting in json.loads(json_of("config", "show"))}
    assert shown["database"]["value"] == "postgresql://shop:***@db.example/books"
    assert shown["database"]["origin"] == "DATABASE_URL"
    assert shown["home"] == {"name": "home", "value": str(home), "origin": "TTEREC_HOME"}
    table = tterec("config", "show").stdout
    assert "secret" not in table
    assert [line.split()[0] for line in table.splitlines()] == list(shown)


def json_of(*arguments: str) -> str:
    return tterec(*arguments, "--format", "json").stdout
