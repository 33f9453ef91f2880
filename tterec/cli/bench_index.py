"""`tterec bench-index`: recall against latency of every candidate index, on the user's vectors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tterec.cli import lists, logs
from tterec.cli.options import INDEXES, database_option
from tterec.cli.progress import progress_on_stderr

if TYPE_CHECKING:
    from tterec.benching import Bench, Measured


@click.command("bench-index")
@click.option(
    "--index",
    "chosen",
    multiple=True,
    type=click.Choice(INDEXES),
    help="Only this index; may be given again. Default: every one.",
)
@click.option("-k", default=10, show_default=True, metavar="N", help="Books a list.")
@click.option("--users", default=200, show_default=True, metavar="N", help="Lists a setting.")
@click.option(
    "--recall",
    default=0.95,
    show_default=True,
    metavar="X",
    help="Which share of the exact list is wanted.",
)
@click.option(
    "--plot",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Draw the curves into this file: .png, .svg or .pdf.",
)
@click.option(
    "--format",
    "style",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="How the figures are written.",
)
@database_option
def command(
    *,
    chosen: tuple[str, ...],
    k: int,
    users: int,
    recall: float,
    plot: Path | None,
    style: str,
    database_url: str | None,
) -> None:
    """Compare the candidate indexes on your own vectors.

    For users drawn from those with interactions, each index makes lists with each of its
    settings. recall: how much of the exact list it finds. p50 and p99: milliseconds from a user's
    vector to a list with titles and exact scores. The last line names the fastest setting that
    reaches the wanted recall.

    \b
    Examples:
      tterec bench-index
      tterec bench-index -k 100 --recall 0.98 --plot indexes.png
      tterec bench-index --index pgvector --index faiss-hnsw --format json
    """
    if plot is not None:
        from tterec.cli import index_plot

        index_plot.check(plot)
    from tterec import benching
    from tterec.database.connection import Database

    database = Database.resolve(database_url)
    names = chosen or benching.available()
    if len(names) < len(INDEXES) and not chosen:
        logs.say("Only pgvector; for the others run: pip install 'tterec[faiss]'")
    with progress_on_stderr() as progress:
        bench = benching.bench_index(
            database, names, k=k, users=users, recall=recall, progress=progress
        )
    with lists.output(None) as out:
        if style == "json":
            json.dump(_as_json(bench), out, indent=2)
            out.write("\n")
        else:
            out.writelines(line + "\n" for line in _table(bench))
    if plot is not None:
        index_plot.draw(bench, plot)
        logs.say(f"Wrote {plot}.")


def _as_json(bench: Bench) -> dict[str, object]:
    from dataclasses import asdict

    fastest = bench.fastest
    return asdict(bench) | {"fastest": None if fastest is None else asdict(fastest)}


def _table(bench: Bench) -> Iterator[str]:
    yield (
        f"generation {bench.generation}: {bench.items:,} books, {bench.dim} dimensions; "
        f"lists of {bench.k} for {bench.users} users"
    )
    yield ""
    heads = ("index", "setting", "recall", "p50 ms", "p99 ms", "build s", "MB")
    rows = [heads, *(_cells(row) for row in bench.rows)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    for row in rows:
        cells = [
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()
    yield ""
    yield _verdict(bench)


def _cells(row: Measured) -> tuple[str, ...]:
    return (
        row.index,
        row.setting,
        f"{row.recall:.4f}",
        f"{row.p50_ms:.2f}",
        f"{row.p99_ms:.2f}",
        "" if row.build_seconds is None else f"{row.build_seconds:.1f}",
        "" if row.bytes is None else f"{row.bytes / 1e6:.1f}",
    )


def _verdict(bench: Bench) -> str:
    fastest = bench.fastest
    if fastest is None:
        return f"No setting reaches recall@{bench.k} {bench.wanted:g}; faiss-flat is exact."
    name = f"{fastest.index} with {fastest.setting}" if fastest.setting else fastest.index
    return (
        f"Fastest with recall@{bench.k} of {bench.wanted:g} or more: {name} "
        f"({fastest.recall:.4f}, {fastest.p50_ms:.2f} ms)."
    )
