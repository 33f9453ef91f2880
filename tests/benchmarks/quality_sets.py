"""The sets on which lists are judged: Book-Crossing in two shapes, and two generated worlds."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.benchmarks.quality_worlds import BARE, DENSE, generated
from tterec.errors import LoadError
from tterec.records import Column, FeatureTable, Interactions
from tterec.store.csv_lines import open_input
from tterec.store.csv_records import Records
from tterec.store.dialects import FileKind
from tterec.store.load_rows import NULL, Unusable, row_maker

Parts = tuple[Interactions, FeatureTable, FeatureTable]
"""All interactions, users and items."""

HELD_OUT = 0.2
LIKED = 7.0
CORE = 5
_FILES: dict[FileKind, str] = {
    "users": "BX-Users.csv.gz",
    "books": "Books.csv.gz",
    "ratings": "Ratings.csv.gz",
}
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t"}


@dataclass(frozen=True)
class QualitySet:
    """A set and its split. The catalogue is all of `items`.

    `train` is all that may be learned from. `test` are the interactions held out. `judged` are
    the users, int64 (u,) ascending, with at least one relevant one among theirs; `relevant` holds
    each one's relevant items: rated at least 7, or met without rating.
    """

    name: str
    seed: int
    train: Interactions
    users: FeatureTable
    items: FeatureTable
    test: Interactions
    judged: NDArray[np.int64]
    relevant: tuple[NDArray[np.int64], ...]


def load_set(name: str, data_dir: Path | str | None, seed: int) -> QualitySet:
    """A set by its name in SETS, split by a seed. `data_dir` holds Book-Crossing's files, None for
    the generated sets.

    Raises KeyError for an unknown name and LoadError for files that are not there.
    """
    if data_dir is None and name in REAL:
        raise LoadError(
            f"the set {name} is Book-Crossing's: name the folder of its files by --data"
        )
    parts = SETS[name](Path(data_dir or ""))
    return split(name, seed, parts, held_out_by_user(parts[0].user_ids, HELD_OUT, seed))


def inner(data: QualitySet) -> QualitySet:
    """The training share of a set, split once more in the same way: what peers are tuned on."""
    # Not the seed of the split itself, nor of any other run.
    held_out = held_out_by_user(data.train.user_ids, HELD_OUT, data.seed + 1_000_003)
    return split(data.name, data.seed, (data.train, data.users, data.items), held_out)


def split(name: str, seed: int, parts: Parts, held_out: NDArray[np.bool_]) -> QualitySet:
    """A set of which the interactions where `held_out` (n,) is true are to be judged by."""
    interactions, users, items = parts
    train, test = interactions.select(~held_out), interactions.select(held_out)
    liked = np.isnan(test.ratings) | (test.ratings >= LIKED)
    judged, relevant = _by_user(test.user_ids[liked], test.item_ids[liked])
    return QualitySet(name, seed, train, users, items, test, judged, relevant)


def held_out_by_user(user_ids: NDArray[np.int64], share: float, seed: int) -> NDArray[np.bool_]:
    """Choose a share, rounded half up, of each user's interactions at random: bool (n,)."""
    random = np.random.default_rng(seed)
    order = np.lexsort((random.random(len(user_ids)), user_ids))
    _, starts, counts = np.unique(user_ids[order], return_index=True, return_counts=True)
    place = np.arange(len(user_ids)) - np.repeat(starts, counts)
    held_out = np.empty(len(user_ids), dtype=bool)
    held_out[order] = place < np.repeat(np.floor(share * counts + 0.5), counts)
    return held_out


def _by_user(
    user_ids: NDArray[np.int64], item_ids: NDArray[np.int64]
) -> tuple[NDArray[np.int64], tuple[NDArray[np.int64], ...]]:
    order = np.argsort(user_ids, kind="stable")
    users, starts = np.unique(user_ids[order], return_index=True)
    return users, tuple(np.split(item_ids[order], starts[1:])) if len(users) else ()


def _core(data_dir: Path) -> Parts:
    """Explicit ratings: of books with at least 5, then by users with at least 5 of those."""
    interactions, users, items = _book_crossing(data_dir)
    kept = interactions.select(~np.isnan(interactions.ratings))
    kept = kept.select(_frequent(kept.item_ids))
    kept = kept.select(_frequent(kept.user_ids))
    users = _rows(users, np.isin(users.ids, kept.user_ids))
    return kept, users, _rows(items, np.isin(items.ids, kept.item_ids))


def _frequent(ids: NDArray[np.int64]) -> NDArray[np.bool_]:
    _, inverse, counts = np.unique(ids, return_inverse=True, return_counts=True)
    frequent: NDArray[np.bool_] = counts[inverse] >= CORE
    return frequent


def _rows(table: FeatureTable, rows: NDArray[np.bool_]) -> FeatureTable:
    columns = (replace(column, values=column.values[rows]) for column in table.columns)
    return FeatureTable(table.ids[rows], tuple(columns))


@lru_cache(maxsize=1)
def _book_crossing(data_dir: Path) -> Parts:
    """Everything, as `tterec load` reads it: mended values, stubs for what no table describes.

    Books have the rank of their ISBN for an id.
    """
    ratings: dict[tuple[int, str], float] = {}
    for user, isbn, rating in _read(data_dir, "ratings", 3):
        ratings[int(user or 0), isbn or ""] = float(rating or "nan")
    books: dict[str, list[str | None]] = {isbn: [None] * 4 for _, isbn in ratings}
    for isbn, *values in _read(data_dir, "books", 5):
        # A record that comes again adds to the first what it knows.
        former = books.get(isbn or "", [None] * 4)
        books[isbn or ""] = [a if a is not None else b for a, b in zip(values, former, strict=True)]
    readers: dict[int, list[str | None]] = {user: [None] * 2 for user, _ in ratings}
    for user, *values in _read(data_dir, "users", 3):
        readers[int(user or 0)] = values
    isbns, user_ids = sorted(books), sorted(readers)
    book_ids = {isbn: number for number, isbn in enumerate(isbns)}
    titles, authors, years, publishers = zip(*(books[isbn] for isbn in isbns), strict=True)
    locations, ages = zip(*(readers[user] for user in user_ids), strict=True)
    return (
        Interactions(
            np.array([user for user, _ in ratings], dtype=np.int64),
            np.array([book_ids[isbn] for _, isbn in ratings], dtype=np.int64),
            np.array(list(ratings.values()), dtype=np.float32),
            np.full(len(ratings), np.nan),
        ),
        FeatureTable(
            np.array(user_ids, dtype=np.int64),
            (_numbers("age", ages), _texts("location", locations)),
        ),
        FeatureTable(
            np.arange(len(isbns)),
            (
                _texts("title", titles),
                _texts("author", authors),
                _texts("publisher", publishers),
                _numbers("year", years),
            ),
        ),
    )


class _Ignored:
    """Findings that nobody asks for: `tterec load` reports them, a benchmark does not."""

    def repair(self, line: int, what: str) -> None:
        """Leave it at that."""

    def reject(self, line: int, reason: str, raw: str) -> None:
        """Leave it at that."""


def _read(data_dir: Path, kind: FileKind, width: int) -> Iterator[list[str | None]]:
    """The first `width` fields of each usable record, in tterec's order of columns."""
    findings = _Ignored()
    with open_input(data_dir / _FILES[kind]) as file:
        records = Records(file, kind, findings)
        row = row_maker(kind, records.header, findings)
        for line, fields in records:
            try:
                values = row(line, fields).rstrip("\n").split("\t")[1 : 1 + width]
            except Unusable:
                continue
            yield [None if value == NULL else _plain(value) for value in values]


def _plain(text: str) -> str:
    """A value without the escapes of COPY."""
    return re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[1]), text)


def _numbers(name: str, values: tuple[str | None, ...]) -> Column:
    return Column(name, "number", np.array([float(value or "nan") for value in values]))


def _texts(name: str, values: tuple[str | None, ...]) -> Column:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return Column(name, "text", column)


SETS: dict[str, Callable[[Path], Parts]] = {
    "core": _core,
    "dense": lambda _: generated(DENSE),
    "bare": lambda _: generated(BARE),
    "sparse": _book_crossing,
}
"""core: explicit ratings of Book-Crossing's better known books. sparse: all of it, implicit
interactions included. dense: generated, with content. bare: generated, without."""
REAL = ("core", "sparse")
