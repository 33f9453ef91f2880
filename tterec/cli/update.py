"""`tterec update`: new, changed and deleted books and users since the generation."""

from __future__ import annotations

import click

from tterec.cli.options import database_option
from tterec.cli.progress import progress_on_stderr


@click.command("update")
@database_option
def command(*, database_url: str | None) -> None:
    """Bring the live generation up to date, without training.

    New and changed books and users are embedded by its towers; deleted ones are removed, users
    from every table. Ratings need no update: they count at once. Nobody is held up, and an update
    that was stopped goes on where it was.

    \b
    Example:
      tterec update
    """
    from tterec import updating
    from tterec.database.connection import Database

    with progress_on_stderr() as progress:
        done = updating.update(Database.resolve(database_url), progress)
    click.echo(str(done))
