"""The command line: parses, calls a verb, prints. Data to stdout, all else to stderr."""

from __future__ import annotations

import errno
import importlib
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

from tterec import __version__
from tterec.cli import logs
from tterec.cli.stopping import stoppable, stops
from tterec.config import LOG_FORMATS, log_format
from tterec.errors import ConfigError, TterecError

# Each name's module in this package holds its `command`, and imports its verb when it runs.
_COMMANDS = {
    "demo": "demo",
    "db": "db",
    "load": "load",
    "train": "train",
    "update": "update",
    "tune": "tune",
    "worker": "worker",
    "precompute": "precompute",
    "recommend": "recommend",
    "similar": "similar",
    "explain": "explain",
    "cluster": "cluster",
    "evaluate": "evaluate",
    "bench-index": "bench_index",
    "models": "models",
    "stats": "stats",
    "doctor": "doctor",
    "config": "config",
}


class _Commands(click.Group):
    """A group that imports a command's module when it is asked for, and words errors."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 (click's)
        return list(_COMMANDS)

    def get_command(
        self,
        ctx: click.Context,  # noqa: ARG002 (click's)
        cmd_name: str,
    ) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"tterec.cli.{_COMMANDS[cmd_name]}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        below = rest[:1] if isinstance(command, click.Group) and rest[:1] != ["--help"] else []
        logs.of_command(" ".join([name or "", *below]))
        return name, command, rest

    def main(self, args: Sequence[str] | None = None, *more: Any, **named: Any) -> Any:
        given = logs.option_first(sys.argv[1:] if args is None else args)
        try:
            form = log_format(_named(given))
        except ConfigError as error:
            click.echo(f"Error: {error}", err=True)
            sys.exit(1)
        # What this terminal cannot show, such as a letter of a title, is no reason to show nothing.
        if getattr(sys.stdout, "errors", None) == "strict" and hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="replace")
        with logs.on_stderr(form), stoppable():
            return super().main(given, *more, **named)

    def make_context(self, *more: Any, **named: Any) -> click.Context:
        with _wrong_usage_logged():
            return super().make_context(*more, **named)

    def invoke(self, ctx: click.Context) -> Any:
        began = time.perf_counter()
        try:
            with stops(), _wrong_usage_logged():
                done = super().invoke(ctx)
        except TterecError as error:
            logs.error(str(error))
            sys.exit(1)
        except Exception as error:
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                where = error.filename or "for temporary files or the output"
                logs.error(
                    f"this computer's disk is full ({where}): free some space, or set TMPDIR to "
                    "another disk, and try again"
                )
                sys.exit(1)
            gone = isinstance(error, OSError) and error.errno == errno.EPIPE  # Click knows it
            if gone or not logs.is_json() or isinstance(error, click.exceptions.Exit | click.Abort):
                raise
            logs.error(f"{type(error).__name__}: {error}", exception=error)
            sys.exit(1)
        logs.note("done", seconds=round(time.perf_counter() - began, 3), exit=0)
        return done


def _named(args: Sequence[str]) -> str | None:
    """The log format that stands in front of the other arguments, if it is one."""
    flags = [flag.partition("=")[2] for flag in args[:1] if flag.startswith(f"{logs.OPTION}=")]
    flags += args[1:2] if args[:1] == [logs.OPTION] else []
    return flags[0] if flags and flags[0] in LOG_FORMATS else None


@contextmanager
def _wrong_usage_logged() -> Iterator[None]:
    """In JSON, let wrong usage be an object as well; for people Click shows it."""
    try:
        yield
    except click.ClickException as error:
        if not logs.is_json():
            raise
        logs.error(error.format_message(), error.exit_code)
        sys.exit(error.exit_code)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--database-url", metavar="URL", help="Which database; see: tterec config show")
@click.option(
    "--log-format",
    type=click.Choice(LOG_FORMATS),
    help="How stderr is written, before the command or after it; see: tterec config show",
)
@click.version_option(__version__)
@click.pass_context
def main(ctx: click.Context, /, database_url: str | None, **_: str | None) -> None:
    """Two-tower recommendations that live in your own Postgres.

    \b
    Example:
      tterec demo
    """
    ctx.obj = database_url  # the other option was read before: see `_Commands.main`
