"""`tterec load`: CSV files into the database."""

from __future__ import annotations

from pathlib import Path

import click

from tterec.cli.options import database_option
from tterec.cli.progress import progress_on_stderr
from tterec.cli.stopping import stops

_FILE = click.Path(path_type=Path)


@click.command("load")
@click.option("--users", type=_FILE, metavar="FILE", help="User-ID, Location, Age")
@click.option("--books", type=_FILE, metavar="FILE", help="ISBN, Book-Title, Book-Author, ...")
@click.option(
    "--ratings", type=_FILE, metavar="FILE", help="User-ID, ISBN, Book-Rating[, Timestamp]"
)
@click.option(
    "--strict", is_flag=True, help="Refuse the load at the first record that has a fault."
)
@click.option(
    "--zero-is-a-rating", is_flag=True, help="A rating of 0 is one; else it means unrated."
)
@database_option
def command(
    *,
    users: Path | None,
    books: Path | None,
    ratings: Path | None,
    strict: bool,
    zero_is_a_rating: bool,
    database_url: str | None,
) -> None:
    """Load users, books and ratings from CSV files, all of it or nothing.

    Files are plain or gzip, with the columns of the Book-Crossing dataset, as on Kaggle (commas)
    or as first published (semicolons). What can be mended is mended; what cannot be kept goes to
    the table tterec.rejected_rows. Loading a file twice changes nothing.

    \b
    Example:
      tterec load --users Users.csv --books Books.csv.gz --ratings Ratings.csv
    """
    if users is None and books is None and ratings is None:
        raise click.UsageError("Give at least one of --users, --books and --ratings.")
    from tterec import pipeline
    from tterec.database.connection import Database

    with stops("nothing was loaded"), progress_on_stderr() as progress:
        summary = pipeline.load(
            Database.resolve(database_url),
            users=users,
            books=books,
            ratings=ratings,
            strict=strict,
            zero_is_a_rating=zero_is_a_rating,
            progress=progress,
        )
    click.echo(str(summary))
