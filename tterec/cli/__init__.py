"""The command line: parses, calls a verb, prints. Data to stdout, all else to stderr."""

from __future__ import annotations

import errno
import importlib
import sys
from typing import Any

import click

from tterec import __version__
from tterec.errors import TterecError

# Each name's module in this package holds its `command`, and imports its verb when it runs.
_COMMANDS = {
    "demo": "demo",
    "db": "db",
    "load": "load",
    "train": "train",
    "update": "update",
    "tune": "tune",
    "worker": "worker",
    "recommend": "recommend",
    "similar": "similar",
    "explain": "explain",
    "cluster": "cluster",
    "evaluate": "evaluate",
    "bench-index": "bench_index",
    "models": "models",
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

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except TterecError as error:
            click.echo(f"Error: {error}", err=True)
            sys.exit(1)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            where = error.filename or "for temporary files or the output"
            click.echo(
                f"Error: this computer's disk is full ({where}): free some space, or set TMPDIR to "
                "another disk, and try again",
                err=True,
            )
            sys.exit(1)
        except KeyboardInterrupt:
            click.echo("Stopped.", err=True)
            sys.exit(1)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--database-url", metavar="URL", help="Which database; see: tterec config show")
@click.version_option(__version__)
@click.pass_context
def main(ctx: click.Context, database_url: str | None) -> None:
    """Two-tower recommendations that live in your own Postgres.

    \b
    Example:
      tterec demo
    """
    ctx.obj = database_url
