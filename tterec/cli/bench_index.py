"""`tterec bench-index`: recall against latency of every index and setting, on your vectors."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tterec.cli.options import INDEXES, database_option
from tterec.cli.progress import progress_on_stderr
from tterec.errors import InvalidArgument, TterecError

if TYPE_CHECKING:
    from tterec.benching import Measured


@click.command("bench-index")
@click.option("--index", "indexes", type=click.Choice(INDEXES), multiple=True, help="Default: all.")
@click.option("-k", default=10, show_default=True, metavar="N", help="Books in a list.")
@click.option("--users", default=200, show_default=True, metavar="N", help="Lists to ask for.")
@click.option(
    "--recall", default=0.95, show_default=True, metavar="SHARE", help="What is to be reached."
)
@click.option("--plot", type=click.Path(path_type=Path), metavar="FILE", help="A picture, as PNG.")
@click.option(
    "--format", "style", type=click.Choice(("table", "json")), default="table", show_default=True
)
@database_option
def command(
    *,
    indexes: tuple[str, ...],
    k: int,
    users: int,
    recall: float,
    plot: Path | None,
    style: str,
    database_url: str | None,
) -> None:
    """Measure what each candidate index finds of the exact list, and how fast.

    The queries are lists of users with ratings, drawn by lot. The time is that of one query from
    this process, with the exact scores.

    \b
    Examples:
      tterec bench-index
      tterec bench-index --recall 0.99 --plot curve.png
      tterec bench-index --index pgvector --index faiss-hnsw -k 100 --format json
    """
    from tterec import benching
    from tterec.database.connection import Database

    if not 0 < recall <= 1:
        raise InvalidArgument(f"--recall {recall:g} is out of range; choose one from 0 to 1")
    if plot is not None:
        _require_matplotlib()
    with progress_on_stderr() as progress:
        measured = benching.bench(
            Database.resolve(database_url), indexes or None, k, users, progress
        )
    best = benching.fastest(measured, recall)
    if style == "json":
        click.echo(json.dumps([asdict(one) for one in measured], indent=2))
    else:
        _table(measured, k)
    if plot is not None:
        _plot(plot, measured, k)
    click.echo(_verdict(best, measured, recall, k), err=style == "json")


def _verdict(best: Measured | None, measured: list[Measured], recall: float, k: int) -> str:
    if best is None:
        nearest = max(measured, key=lambda one: one.recall)
        return (
            f"No setting reaches recall@{k} {recall:g}; {_named(nearest)} is nearest, with "
            f"{nearest.recall:.4f}."
        )
    return (
        f"Fastest with recall@{k} of at least {recall:g}: {_named(best)}, "
        f"{best.p50_ms:.2f} ms, recall {best.recall:.4f}."
    )


def _named(one: Measured) -> str:
    return f"{one.index} {one.setting}".strip()


def _table(measured: list[Measured], k: int) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("index")
    table.add_column("setting")
    for name in (f"recall@{k}", "p50, ms", "p99, ms", "build, s", "MB"):
        table.add_column(name, justify="right")
    for one in measured:
        table.add_row(
            one.index,
            one.setting,
            f"{one.recall:.4f}",
            f"{one.p50_ms:.2f}",
            f"{one.p99_ms:.2f}",
            "" if one.build_seconds is None else f"{one.build_seconds:.1f}",
            "" if one.megabytes is None else f"{one.megabytes:.1f}",
        )
    width = None if sys.stdout.isatty() else 100
    Console(file=sys.stdout, width=width, highlight=False).print(table)


def _require_matplotlib() -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise TterecError(
            "matplotlib draws the picture and is not installed; run: pip install 'tterec[plot]', "
            "or leave out --plot"
        ) from error


def _plot(path: Path, measured: list[Measured], k: int) -> None:
    from matplotlib.figure import Figure
    from matplotlib.ticker import StrMethodFormatter

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for name in dict.fromkeys(one.index for one in measured):
        mine = [one for one in measured if one.index == name]
        axes.plot([x.p50_ms for x in mine], [x.recall for x in mine], marker="o", label=name)
        for one in mine:
            axes.annotate(
                one.setting.rpartition(" ")[2],
                (one.p50_ms, one.recall),
                xytext=(4, -10),
                textcoords="offset points",
                fontsize=8,
            )
    axes.set_xscale("log")
    for set_formatter in (axes.xaxis.set_major_formatter, axes.xaxis.set_minor_formatter):
        set_formatter(StrMethodFormatter("{x:g}"))
    axes.set_xlabel("median time of a query, ms")
    axes.set_ylabel(f"recall@{k} against exact search")
    axes.set_title("Candidate indexes; the numbers are ef_search and nprobe")
    axes.grid(True, which="both", alpha=0.3)
    axes.legend()
    try:
        figure.savefig(path, format="png", dpi=120)
    except OSError as error:
        raise InvalidArgument(f"cannot write {path}: {error.strerror}") from error
