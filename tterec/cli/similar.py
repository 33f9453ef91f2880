"""`tterec similar`: the books nearest to a book."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tterec.cli import lists, logs
from tterec.cli.filters import filters_options
from tterec.cli.options import database_option, index_option
from tterec.cli.rules import rules_options

if TYPE_CHECKING:
    from tterec import Filters, Rules


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
@index_option
@filters_options
@rules_options
@database_option
def command(
    *,
    isbn: str,
    k: int,
    style: str,
    index: str,
    database_url: str | None,
    filters: Filters | None,
    rules: Rules | None,
) -> None:
    """Show the books nearest to a book.

    \b
    Examples:
      tterec similar 0439064864
      tterec similar 0439064864 --max-per-author 1
      tterec similar 0439064864 --min-year 1990
    """
    from tterec.database.connection import Database
    from tterec.recommender import Recommender

    with (
        Recommender(Database.resolve(database_url), index=index) as recommender,
        lists.output(None, style) as out,
    ):
        found = recommender.similar(isbn, k, rules=rules, filters=filters)
        if found and found[0].source == "popular":
            logs.say(f"{isbn} has no vector yet (tterec update): popular books.")
        lists.write_list(out, found, style)
