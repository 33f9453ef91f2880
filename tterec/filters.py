"""Which books a list may hold, as callers pass it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields

from tterec.errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class Filters:
    """Which books a list may hold; the parameters of `tterec.recommend()` in SQL.

    A list has k books wherever k books pass. Author, publisher and year are columns of the items
    query, as of now; a book of which one is unknown does not pass a filter on it. Raises
    InvalidArgument for a value that cannot be used.
    """

    only_isbns: Collection[str] | None = None
    """Only books with these ISBNs."""
    without_isbns: Collection[str] | None = None
    """No books with these ISBNs."""
    author: str | None = None
    """Only by this author: the same text but for case and blanks around it."""
    publisher: str | None = None
    """Only of this publisher, in the same way."""
    min_year: int | None = None
    """Only of this year or later."""
    max_year: int | None = None
    """Only of this year or earlier."""
    min_ratings: int | None = None
    """Only books with at least so many interactions, rated or not, as of the live generation; as of
    now where none is live."""

    def __post_init__(self) -> None:
        for name in ("only_isbns", "without_isbns"):
            isbns = getattr(self, name)
            if isinstance(isbns, str):
                raise InvalidArgument(f"{name} is one text; pass a list or set of ISBNs")
            if isbns is not None and not all(isinstance(isbn, str) for isbn in isbns):
                raise InvalidArgument(f"{name} holds what is not a text; pass ISBNs as texts")
            if isbns is not None:
                object.__setattr__(self, name, frozenset(isbns))
        for name in ("author", "publisher"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, str):
                raise InvalidArgument(f"{name} = {value!r} is not a text")
        for name in ("min_year", "max_year", "min_ratings"):
            value = getattr(self, name)
            if value is not None and (not isinstance(value, int) or isinstance(value, bool)):
                raise InvalidArgument(f"{name} = {value!r} is not a whole number")
            if value is not None and not -(2**31) <= value < 2**31:
                raise InvalidArgument(f"{name} = {value} is out of range; choose a smaller number")
        if self.min_ratings is not None and self.min_ratings < 0:
            raise InvalidArgument(
                f"min_ratings = {self.min_ratings} is negative; ask for 0 or more"
            )

    @property
    def on(self) -> bool:
        """Whether any filter is given."""
        return any(getattr(self, field.name) is not None for field in fields(self))
