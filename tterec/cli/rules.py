"""The options that make up Rules: what a shop wants of a list besides the best books first."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from tterec.cli.csv_column import read_column

if TYPE_CHECKING:
    from tterec import Rules

_Result = TypeVar("_Result")
_FILE = click.Path(path_type=Path)

# Each is called as the field of Rules. The defaults are those of Rules, which is not imported
# before a command runs.
_OPTIONS = (
    click.option(
        "--diversity", type=float, metavar="0..1", help="How much books like those above lose."
    ),
    click.option("--max-per-author", type=int, metavar="N", help="At most N books by one author."),
    click.option("--freshness", type=float, metavar="X", help="How much new books gain; try 0.2."),
    click.option(
        "--half-life", type=float, metavar="YEARS", help="That gain halves in; default 5."
    ),
    click.option(
        "--dither", type=float, metavar="X", help="Noise on the order, another for each --seed."
    ),
    click.option("--seed", type=int, metavar="N", help="Of --dither; default 0."),
    click.option("--available", type=_FILE, metavar="FILE", help="Only these: a CSV with isbn."),
    click.option("--unavailable", type=_FILE, metavar="FILE", help="None of these: the same."),
    click.option(
        "--available-column", metavar="NAME", help="Only where this column of the items is true."
    ),
    click.option("--author-column", metavar="NAME", help="What an author is; default author."),
    click.option("--year-column", metavar="NAME", help="A book's year or date; default year."),
)


def rules_options(function: Callable[..., _Result]) -> Callable[..., _Result]:
    """Add the options; the command gets `rules`, None where no rule is on."""

    @functools.wraps(function)
    def with_rules(**given: Any) -> _Result:
        mine = {name: given.pop(name) for name in names}
        return function(rules=_rules(mine), **given)

    before = len(getattr(with_rules, "__click_params__", ()))
    decorated: Callable[..., _Result] = with_rules
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    names = [parameter.name for parameter in decorated.__click_params__[before:]]  # type: ignore[attr-defined]
    return decorated


def _rules(given: dict[str, Any]) -> Rules | None:
    chosen = {name: value for name, value in given.items() if value is not None}
    if not chosen:
        return None
    from tterec import Rules

    for name in ("available", "unavailable"):
        if name in chosen:
            chosen[name] = read_column(chosen[name], "isbn")
    rules = Rules(**chosen)
    return rules if rules.on else None
