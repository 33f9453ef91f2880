"""`tterec explain`: which of a user's own books a book's score comes from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from tterec.cli import lists, logs
from tterec.cli.options import database_option

if TYPE_CHECKING:
    from tterec import Contribution
    from tterec.recommender import Recommender


@click.command("explain")
@click.argument("user")
@click.argument("isbn")
@click.option(
    "-k", default=10, show_default=True, metavar="N", help="How many books the table shows."
)
@click.option(
    "--format",
    "style",
    type=click.Choice(lists.FORMATS),
    default="table",
    show_default=True,
    help="How it is written; json and csv have all books.",
)
@database_option
def command(*, user: str, isbn: str, k: int, style: str, database_url: str | None) -> None:
    """Show why a book has its score for a user: what each of the user's own books adds to it.

    The profile, which has no ISBN, is what comes from the user's features, or from being a user
    at all. All of it adds up to the score by which `tterec recommend` orders the book.

    \b
    Example:
      tterec explain 123 0439064864
    """
    from tterec.database.connection import Database
    from tterec.recommender import Recommender
    from tterec.records import Contribution

    with (
        Recommender(Database.resolve(database_url)) as recommender,
        lists.output(None, style) as out,
    ):
        found = recommender.explain(user, isbn)
        if not found:
            logs.say(_why_nothing(recommender, user, isbn))
        if style == "table":
            out.writelines(line + "\n" for line in _table(found, max(k, 0), lists.width_of(out)))
        else:
            lists.write_records(out, Contribution, found, style)


def _why_nothing(recommender: Recommender, user: str, isbn: str) -> str:
    if recommender.generation() is None:
        return "No generation is live (train one: tterec train): there is no score."
    return f"User {user} or book {isbn} has no vector (tterec train): there is no score."


def _table(found: Sequence[Contribution], k: int, width: int | None) -> Iterator[str]:
    """The k books that add most, the rest in one line, the profile and the sum."""
    if not found:
        return
    own = [one for one in found if one.book_id is not None]
    rows = [
        (
            lists.printable(one.title or "(no title)"),
            lists.printable(one.isbn or "-"),
            "-" if one.rating is None else f"{one.rating:g}",
            one.contribution,
        )
        for one in own[:k]
    ]
    if len(own) > k:
        rest = sum(one.contribution for one in own[k:])
        rows.append((f"({len(own) - k} other books)", "", "", rest))
    rows += [("(profile)", "", "", one.contribution) for one in found if one.book_id is None]
    total = sum(one.contribution for one in found)
    shown = [(*row[:3], f"{row[3]:.4f}") for row in [*rows, ("score", "", "", total)]]
    yield from lists.aligned(("title", "isbn", "rating", "adds"), shown, width)
