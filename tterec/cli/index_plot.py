"""The curves of `tterec bench-index` as a picture. The one file that speaks to Matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from tterec.errors import InvalidArgument, TterecError

if TYPE_CHECKING:
    from tterec.benching import Bench, Measured

_SUFFIXES = (".png", ".svg", ".pdf")
_MARKS = {"pgvector": "o", "faiss-flat": "D", "faiss-hnsw": "s", "faiss-ivfpq": "^"}


def check(path: Path) -> None:
    """Raises, before minutes of measuring, what drawing into this file would raise."""
    if path.suffix.lower() not in _SUFFIXES:
        raise InvalidArgument(f"--plot {path} must end in one of {', '.join(_SUFFIXES)}")
    if not path.absolute().parent.is_dir():
        raise InvalidArgument(f"--plot {path}: there is no directory {path.parent}; make it first")
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise TterecError("--plot needs Matplotlib; run: pip install 'tterec[plot]'") from error


def draw(bench: Bench, path: Path) -> None:
    """Recall over latency, one line an index, one point a setting. Raises InvalidArgument."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    figure = Figure(figsize=(9, 5.5), dpi=120, layout="constrained")
    axes = figure.subplots()
    for name, mark in _MARKS.items():
        rows = [row for row in bench.rows if row.index == name and row.setting != "scan"]
        if not rows:
            continue
        [line] = axes.plot(
            [row.p50_ms for row in rows], [row.recall for row in rows], marker=mark, label=name
        )
        for row in (rows[0], rows[-1]) if len(rows) > 1 else ():
            axes.annotate(
                row.setting.replace("ef_search", "ef"),
                (row.p50_ms, row.recall),
                xytext=(0, -13),
                textcoords="offset points",
                ha="center",
                fontsize=8,
                color=line.get_color(),
            )
    scans = [row for row in bench.rows if row.setting == "scan"]
    for row in scans:
        axes.plot([row.p50_ms], [row.recall], marker="*", ms=10, ls="", label="pgvector, scan")
    axes.axhline(bench.wanted, color="grey", ls="--", lw=1, label=f"wanted: {bench.wanted:g}")
    axes.set_xscale("log")
    every = _narrow(bench.rows)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda ms, _: f"{ms:g}"))
    axes.xaxis.set_minor_formatter(
        FuncFormatter(lambda ms, _: f"{ms:g}" if every or f"{ms:e}"[0] in "25" else "")
    )
    axes.tick_params(axis="x", which="both", length=4, pad=4)
    axes.set_xlabel("milliseconds a list, median")
    axes.set_ylabel(f"recall@{bench.k}")
    axes.set_title(f"{bench.items:,} books, {bench.dim} dimensions, {bench.users} users")
    axes.grid(which="both", alpha=0.3)
    axes.legend(loc="lower right")
    try:
        figure.savefig(path)
    except OSError as error:
        raise InvalidArgument(f"cannot write {path}: {error.strerror}") from error


def _narrow(rows: list[Measured]) -> bool:
    """Whether the times span so little that 1, 2, 5, 10 would leave the axis bare."""
    times = [row.p50_ms for row in rows]
    return max(times) < 4 * min(times)
