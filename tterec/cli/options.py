"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

# As in tterec.retrieval.choice, which takes NumPy with it.
INDEXES = ("pgvector", "faiss-flat", "faiss-hnsw", "faiss-ivfpq")

_Function = TypeVar("_Function", bound=Callable[..., Any])


def database_option(function: _Function) -> _Function:
    """Add `--database-url`, which may stand before the command's name or after it."""

    def given(ctx: click.Context, _: click.Parameter, value: str | None) -> str | None:
        outer = ctx.find_root().obj
        return value or (outer if isinstance(outer, str) else None)

    return click.option(
        "--database-url",
        metavar="URL",
        callback=given,
        help="Which database; default: environment, else the embedded one.",
    )(function)


def index_option(function: _Function) -> _Function:
    """Add `--index`, which names the candidate index."""
    return click.option(
        "--index",
        type=click.Choice(INDEXES),
        default=INDEXES[0],
        show_default=True,
        help="What finds the candidates.",
    )(function)
