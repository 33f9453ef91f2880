"""`tterec precompute`: users' lists, made before they are asked for."""

from __future__ import annotations

import click

from tterec.cli.options import database_option
from tterec.cli.progress import progress_on_stderr
from tterec.cli.stopping import stops


@click.command("precompute")
@click.option(
    "--top", type=int, default=200, show_default=True, metavar="N", help="How many books a list."
)
@database_option
def command(*, top: int, database_url: str | None) -> None:
    """Make each active user's list, and store it with the live generation.

    Active is who has rated something, or has a profile. What is asked for afterwards is read from
    the list where it is still right: the same books, several times as fast. Ratings, books and
    profiles that came since are noticed when a list is asked for; it is then made anew, until the
    next run. A run makes only the lists that are missing or may be wrong, and one that was stopped
    goes on where it was.

    \b
    Examples:
      tterec precompute
      tterec precompute --top 50
    """
    from tterec import precomputing
    from tterec.database.connection import Database

    with stops("the lists that were made are kept"), progress_on_stderr() as progress:
        done = precomputing.precompute(Database.resolve(database_url), top=top, progress=progress)
    click.echo(str(done))
