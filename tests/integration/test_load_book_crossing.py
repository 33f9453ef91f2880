"""The real Book-Crossing files: every record accounted for, and rows that are easily spoilt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tterec import errors
from tterec.database.connection import Database
from tterec.store.load import load


def test_book_crossing_is_loaded_whole_and_twice(database: Database, book_crossing: Path) -> None:
    files: dict[str, Any] = {
        "users": book_crossing / "BX-Users.csv.gz",
        "books": book_crossing / "Books.csv.gz",
        "ratings": book_crossing / "Ratings.csv.gz",
    }
    with pytest.raises(errors.LoadError, match=r"BX-Users\.csv\.gz, line 221: impossible age"):
        load(database, **files, strict=True)
    summary = load(database, **files)
    # Counted by the csv module and a set of ids, in a dozen lines that know nothing of tterec.
    counts = [(f.records, f.accepted, f.rejected, f.merged) for f in summary.files]
    assert counts == [(278858, 278858, 0, 0), (39315, 39284, 0, 31), (403928, 403928, 0, 0)]
    assert (summary.stubs, summary.users_created) == (72853, 0)
    assert summary.repairs["impossible age"] == 978
    with database.connect() as connection:

        def rows(query: str) -> list[tuple[Any, ...]]:
            return connection.execute(query.encode()).fetchall()

        assert rows("SELECT count(*) FROM tterec.users WHERE age IS NULL") == [(111740,)]
        assert rows("SELECT user_id, location FROM tterec.users WHERE location ~ '\\n'") == [
            (275081, "cernusco s\n, milan, italy")
        ]
        assert rows("SELECT location, age FROM tterec.users WHERE user_id IN (268, 63602)") == [
            ('århus, "n/a", denmark', None),
            ('zapresiæ, "n/a", croatia', 26),
        ]
        assert rows("SELECT title FROM tterec.books WHERE isbn = '0671749897'") == [
            (
                "RED DEATH : Featuring an Original Easy Rawlins Short Story"
                ' \\Silver Lining\\" (Easy Rawlins Mysteries (Paperback))"',
            )
        ]
        assert rows("SELECT publisher FROM tterec.books WHERE isbn = '0393045218'") == [
            ("W. W. Norton & Company",)
        ]
        assert rows("SELECT count(*), count(rating) FROM tterec.ratings WHERE user_id = 11676") == [
            (12860, 7790)
        ]
        assert rows("SELECT count(rating), min(rating), max(rating) FROM tterec.ratings") == [
            (247546, 1, 10)
        ]
    assert load(database, **files).changed == 0
