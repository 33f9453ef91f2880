"""What callers of a Recommender pass: checked, and looked up."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import numpy as np

from tterec import errors
from tterec.database.connection import Connection
from tterec.retrieval import pgvector
from tterec.retrieval.users import History

_MOST_BOOKS = 2**31 - 1
"""What k is in SQL: an integer."""


def checked_k(k: int) -> int:
    """A k that Postgres takes: beyond the catalogue they are all alike."""
    try:
        whole = operator.index(k)
    except TypeError:
        raise errors.InvalidArgument(f"k = {k!r} is not a whole number") from None
    if whole < 0:
        raise errors.InvalidArgument(f"k = {whole} is negative; ask for 0 or more books")
    return min(whole, _MOST_BOOKS)


def checked_ratings(
    isbns: Sequence[str], ratings: Sequence[float | None] | None
) -> list[float | None]:
    """A rating, or None, for each ISBN. Raises InvalidArgument."""
    if isinstance(isbns, str):
        raise errors.InvalidArgument("isbns is one text; pass a list of ISBNs")
    if not all(isinstance(isbn, str) for isbn in isbns):
        raise errors.InvalidArgument("isbns holds what is not a text; pass ISBNs as texts")
    given: list[float | None] = [None] * len(isbns) if ratings is None else list(ratings)
    if len(given) != len(isbns):
        raise errors.InvalidArgument(
            f"{len(isbns)} isbns but {len(given)} ratings; "
            "pass one rating an isbn, None where there is none"
        )
    for isbn, rating in zip(isbns, given, strict=True):
        if rating is not None and not _is_rating(rating):
            raise errors.InvalidArgument(
                f"rating {rating!r:.100} of {isbn} is not between 0 and 10; "
                "pass None for a book without rating"
            )
    return given


def _is_rating(rating: float) -> bool:
    try:
        return bool(0 <= rating <= 10)
    except TypeError:
        return False


def item_id(connection: Connection, isbn: str) -> int:
    """The id of the book, the smallest of several. Raises UnknownBook."""
    found = pgvector.books(connection, [isbn])
    if not found:
        raise errors.UnknownBook(
            f"there is no book with ISBN {isbn} in the catalogue; look it up: psql "
            '"$(tterec db url)" -c "SELECT isbn, title FROM tterec.catalogue '
            "WHERE title ILIKE '%word%'\""
        )
    return min(found_id for _, found_id in found)


def history_of_books(
    connection: Connection, isbns: Sequence[str], ratings: Sequence[float | None]
) -> History:
    """What somebody has met who has read these books: a book that is named twice counts once, with
    its higher rating. Unknown ISBNs are passed over."""
    items: dict[str, list[int]] = {}
    for isbn, found in pgvector.books(connection, isbns):
        items.setdefault(isbn, []).append(found)
    best: dict[int, float] = {}
    for isbn, rating in zip(isbns, ratings, strict=True):
        for book in items.get(isbn, ()):
            value = -np.inf if rating is None else float(rating)
            best[book] = max(best.get(book, -np.inf), value)
    ordered = sorted(best, key=lambda book: (-best[book], book))
    values = np.array([best[book] for book in ordered], dtype=np.float32)
    values[np.isinf(values)] = np.nan
    return History(np.array(ordered, dtype=np.int64), values)
