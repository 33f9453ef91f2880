"""The options that make up Filters: which books a list may hold."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from tterec import Filters

_Result = TypeVar("_Result")

# Each is called as the field of Filters. Lists of ISBNs are rules: --available, --unavailable.
_OPTIONS = (
    click.option("--author", metavar="NAME", help="Only books by this author."),
    click.option("--publisher", metavar="NAME", help="Only books of this publisher."),
    click.option("--min-year", type=int, metavar="YEAR", help="Only books of that year or later."),
    click.option(
        "--max-year", type=int, metavar="YEAR", help="Only books of that year or earlier."
    ),
    click.option(
        "--min-ratings",
        type=int,
        metavar="N",
        help="Only books that N users or more have met, rated or not.",
    ),
)
_NAMES = ("author", "publisher", "min_year", "max_year", "min_ratings")


def filters_options(function: Callable[..., _Result]) -> Callable[..., _Result]:
    """Add the options; the command gets `filters`, None where none is given."""

    @functools.wraps(function)
    def with_filters(**given: Any) -> _Result:
        return function(filters=_filters({name: given.pop(name) for name in _NAMES}), **given)

    decorated: Callable[..., _Result] = with_filters
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated


def _filters(given: dict[str, Any]) -> Filters | None:
    if all(value is None for value in given.values()):
        return None
    from tterec import Filters

    return Filters(**given)
