"""Data frames take the same road as files."""

from __future__ import annotations

import pandas as pd

from tterec.database.connection import Database
from tterec.store.load import load_frames


def test_frames_are_loaded_as_files_are(database: Database) -> None:
    users = pd.DataFrame({"user_id": [1, 2], "age": [25, None], "location": ["a, b", "c\nd"]})
    books = pd.DataFrame({"isbn": ["A"], "title": ['say "x"'], "year": [1999]})
    ratings = pd.DataFrame({"user_id": [1, 2, 2], "isbn": ["A", "A", "B"], "rating": [8, 0, 12.0]})
    summary = load_frames(database, users, books, ratings)
    assert [file.accepted for file in summary.files] == [2, 1, 2]
    assert summary.rejected == {"rating is outside 0 to 10": 1}
    with database.connect() as connection:
        query = "SELECT user_id, location, age FROM tterec.users ORDER BY user_id"
        assert connection.execute(query).fetchall() == [(1, "a, b", 25), (2, "c\nd", None)]
        query = "SELECT title, year FROM tterec.books"
        assert connection.execute(query).fetchall() == [('say "x"', 1999)]
        query = "SELECT file, line, raw FROM tterec.rejected_rows"
        assert connection.execute(query).fetchall() == [("ratings.csv", 4, "2,B,12.0")]
    assert load_frames(database, ratings=ratings, zero_is_a_rating=True).changed == 1
