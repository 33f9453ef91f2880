"""`tterec demo`: the whole way on a generated bookshop."""

from __future__ import annotations

import os
import shutil
import textwrap
from collections.abc import Iterator
from itertools import zip_longest
from typing import TYPE_CHECKING

import click

from tterec.cli.options import database_option

if TYPE_CHECKING:
    from tterec.demo import Tour

_GAP = 3
_NUMBER, _GENRE = 3, 8
_TITLE_LINES = 2
_WIDEST = 140
_NARROWEST = 60
_MOST_READ = 12
_UNSET = "unset TTEREC_DATABASE_URL"


@click.command()
@click.option("--seed", type=click.IntRange(min=0), default=0, help="Another seed, another shop.")
@database_option
def command(seed: int, database_url: str | None) -> None:
    """Show the whole way on a generated bookshop: load, train, recommend.

    Without a URL it works in a database of its own, tterec_demo, on the embedded server. With
    one, that database must be empty.

    \b
    Example:
      tterec demo
      tterec demo --seed 7
    """
    from tterec import demo
    from tterec.cli.progress import progress_on_stderr

    with progress_on_stderr(sums=False) as progress:  # it says so itself
        tour = demo.take_tour(database_url, seed, progress)
    width = min(max(shutil.get_terminal_size((80, 24)).columns, _NARROWEST), _WIDEST)
    for line in (*_page(tour, width), "", *_what_next(tour)):
        click.echo(line)


def _page(tour: Tour, width: int) -> Iterator[str]:
    """The reader's past beside the recommendations, in two columns."""
    reader = tour.reader
    age = "of untold age" if reader.age is None else f"aged {reader.age}"
    yield ""
    yield click.style(f"Reader {reader.user_id}, {age}, from {reader.location.title()}", bold=True)
    half = (width - _GAP) // 2
    read = [_cell(str(r or "-"), b.title, b.genre, half) for b, r in tour.read[:_MOST_READ]]
    if len(tour.read) > _MOST_READ:
        read.append([f"{'':{_NUMBER}} and {len(tour.read) - _MOST_READ} more"])
    given = [_cell(str(one.rank), b.title, b.genre, half) for one, b in tour.recommended]
    yield f"{'has read, with ratings':<{half}}{'':{_GAP}}should like"
    yield f"{'-' * half}{'':{_GAP}}{'-' * half}"
    for left, right in zip_longest(_lines(read), _lines(given), fillvalue=""):
        yield f"{left:<{half}}{'':{_GAP}}{right}".rstrip()
    if tour.awaited is not None:
        place = [one.rank for one, book in tour.recommended if book == tour.awaited]
        rank = f"is number {place[0]}" if place else "is not among the ten"
        yield ""
        yield from textwrap.wrap(
            f"The reader has finished volume 3 of “{tour.awaited.series}”: volume 4 {rank}.", width
        )


def _lines(cells: list[list[str]]) -> list[str]:
    return [line for cell in cells for line in cell]


def _cell(number: str, title: str, genre: str, width: int) -> list[str]:
    """One book: number, title on as many lines as it needs and may have, genre."""
    room = width - _NUMBER - _GENRE - 2
    first, *rest = textwrap.wrap(title, room, max_lines=_TITLE_LINES, placeholder="…")
    lines = [f"{number:>{_NUMBER}} {first:<{room}} {genre}"]
    return lines + [f"{'':{_NUMBER}}   {line}" for line in rest]


def _what_next(tour: Tour) -> Iterator[str]:
    """Commands that can be pasted."""
    database = tour.database
    another = tour.reader.user_id % len(tour.shop.readers) + 1
    isbn = tour.recommended[0][1].isbn
    setting = "$env:TTEREC_DATABASE_URL =" if os.name == "nt" else "export TTEREC_DATABASE_URL="
    yield click.style("What to type next", bold=True)
    if database.origin == "demo":
        yield f"  {setting}'{database.url}'"
    elif database.origin == "--database-url":
        yield f"  {setting}'...'   (the URL that you gave: {database.masked})"
    yield f"  tterec recommend {another}"
    yield f"  tterec similar {isbn}"
    yield f'  psql "$(tterec db url)" -c "SELECT * FROM tterec.recommend({another})"'
    yield ""
    yield click.style("Your own files, in your own database", bold=True)
    if database.origin == "demo":
        yield f"  {'$env:TTEREC_DATABASE_URL = $null' if os.name == 'nt' else _UNSET}"
    yield "  tterec db upgrade"
    yield "  tterec load --users Users.csv --books Books.csv --ratings Ratings.csv"
    yield "  tterec train"  # not with &&, which Windows PowerShell does not know
    yield "  tterec recommend 1"
    if database.origin == "demo":
        yield ""
        yield "The embedded Postgres keeps running until: tterec db stop"
