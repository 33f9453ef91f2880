"""`tterec similar`: the books nearest to a book."""

from __future__ import annotations

import click

from tterec.cli import lists
from tterec.cli.options import database_option


@click.command("similar")
@click.argument("isbn")
@click.option("-k", default=10, show_default=True, metavar="N", help="How many books.")
@click.option(
    "--format",
    "style",
    type=click.Choice(lists.FORMATS),
    default="table",
    show_default=True,
    help="How the list is written.",
)
@database_option
def command(*, isbn: str, k: int, style: str, database_url: str | None) -> None:
    """Show the books nearest to a book.

    \b
    Example:
      tterec similar 0439064864
    """
    from tterec.database.connection import Database
    from tterec.recommender import Recommender

    with Recommender(Database.resolve(database_url)) as recommender, lists.output(None) as out:
        found = recommender.similar(isbn, k)
        if found and found[0].source == "popular":
            click.echo(f"{isbn} has no vector yet (tterec train): popular books.", err=True)
        lists.write_list(out, found, style)
