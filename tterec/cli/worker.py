"""`tterec worker`: the live generation follows its sources as they change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from tterec.cli import logs
from tterec.cli.options import database_option
from tterec.cli.progress import progress_on_stderr
from tterec.cli.stopping import stops


@click.command("worker")
@click.option("--once", is_flag=True, help="Do what is queued and end; for cron.")
@click.option(
    "--poll",
    type=click.FloatRange(min=0.1),
    metavar="SECONDS",
    default=5.0,
    show_default=True,
    help="How often to look when nothing wakes it.",
)
@database_option
def command(*, once: bool, poll: float, database_url: str | None) -> None:
    """Keep the live generation up to date as books and users come, change and go.

    Triggers queue every change; a new book is recommended within a second of its commit. Start as
    many workers as you like: they share the queue. Ctrl-C or SIGTERM ends one; what it had not
    finished stays queued.

    \b
    Examples:
      tterec worker
      tterec worker --once
    """
    from tterec import working
    from tterec.database.connection import Database

    database = Database.resolve(database_url)
    with stops("what is not finished stays queued") if once else _ending():
        with progress_on_stderr() as progress:
            done = working.work(database, once=once, poll=poll, progress=progress)
        click.echo(f"Done: {done}")


@contextmanager
def _ending() -> Iterator[None]:
    """To be stopped is how a worker ends that has no other end."""
    try:
        yield
    except KeyboardInterrupt:
        logs.say("Stopped.")
