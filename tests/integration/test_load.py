"""Loading files into a real database: what is kept, what is merged, what a second load does."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from tterec import errors
from tterec.database.connection import Database
from tterec.records import Progress
from tterec.store.load import load
from tterec.store.load_summary import FileSummary

USERS = '"User-ID";"Location";"Age"\r\n"1";"oslo, \\"n/a\\", norway";"25"\r\n"2";"århus";NULL\r\n'
BOOKS = (
    "ISBN,Book-Title,Book-Author,Year-Of-Publication,Publisher,Image-URL-S\n"
    '038550120X,"One, ""two""",Ann,1999,Norton &amp; Co,http://x/1.jpg\n'
    "0684867621,Three,Bob,2000,Plume,\n"
)
RATINGS = "User-ID,ISBN,Book-Rating\n1,038550120X,8\n1,0684867621,0\n2,038550120x,10\n"


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A small clean set of files, of both dialects, one of them gzip."""
    return {
        "users": write(tmp_path / "Users.csv.gz", gzip.compress(USERS.encode("latin-1"))),
        "books": write(tmp_path / "Books.csv", BOOKS),
        "ratings": write(tmp_path / "Ratings.csv", RATINGS),
    }


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def rows(database: Database, query: str) -> list[tuple[Any, ...]]:
    with database.connect() as connection:
        return connection.execute(query.encode()).fetchall()


def ratings_of(database: Database) -> list[tuple[Any, ...]]:
    return rows(
        database,
        "SELECT user_id, isbn, rating FROM tterec.ratings JOIN tterec.books USING (book_id)"
        " ORDER BY user_id, isbn",
    )


def versions(database: Database) -> list[tuple[Any, ...]]:
    """Where every row lies and which transaction wrote or locked it."""
    return [
        row
        for table in ("users", "books", "ratings", "rejected_rows")
        for row in rows(database, f"SELECT ctid, xmin, xmax FROM tterec.{table} ORDER BY ctid")
    ]


def test_three_files_become_three_tables(database: Database, files: dict[str, Path]) -> None:
    summary = load(database, **files)
    assert rows(database, "SELECT user_id, location, age FROM tterec.users ORDER BY user_id") == [
        (1, 'oslo, "n/a", norway', 25),
        (2, "århus", None),
    ]
    assert rows(
        database,
        "SELECT isbn, title, author, publisher, year, image_url_s, image_url_m"
        " FROM tterec.books ORDER BY book_id",
    ) == [
        ("038550120X", 'One, "two"', "Ann", "Norton & Co", 1999, "http://x/1.jpg", None),
        ("0684867621", "Three", "Bob", "Plume", 2000, None, None),
    ]
    assert ratings_of(database) == [
        (1, "038550120X", 8),
        (1, "0684867621", None),
        (2, "038550120X", 10),
    ]
    assert rows(database, "SELECT count(*) FROM tterec.ratings WHERE rated_at IS NULL") == [(3,)]
    assert summary.files[2] == FileSummary("Ratings.csv", "ratings", 3, 3, 0, 0, 3, 0)
    assert summary.repairs == {
        "HTML entity in a text": 1,
        "ISBN in lower case or with blanks or hyphens": 1,
    }
    assert (summary.stubs, summary.users_created, summary.changed) == (0, 0, 7)


def test_a_second_load_writes_nothing(
    database: Database, files: dict[str, Path], tmp_path: Path
) -> None:
    with files["ratings"].open("a") as more:
        more.write("3,UNKNOWN,9\n1,038550120X,7\n1,X,eleven\n")
    assert load(database, **files).changed > 0
    before = versions(database)
    sequences = rows(database, "SELECT last_value FROM tterec.books_book_id_seq")
    again = load(database, **files)
    assert again.changed == 0
    assert "0 changed" in str(again)
    assert versions(database) == before
    assert rows(database, "SELECT last_value FROM tterec.books_book_id_seq") == sequences
    assert again.files[2].merged == 1
    assert again.rejected == {"rating is not a number": 1}


def test_every_record_is_accepted_rejected_or_merged(database: Database, tmp_path: Path) -> None:
    path = write(
        tmp_path / "r.csv",
        "User-ID,ISBN,Book-Rating\n1,A,5\n1,a,6\n1,A-,7\n2,A,11\n,A,5\n2,,5\n2,B\nx,B,5\n2,B,nan\n"
        '\n2,"B,5\n2,B\0,5\n2,B,3\n',
    )
    summary = load(database, ratings=path)
    assert summary.files == (FileSummary("r.csv", "ratings", 12, 2, 8, 2, 2, 0),)
    assert summary.rejected == {
        "rating is outside 0 to 10": 1,
        "no user id": 1,
        "no ISBN": 1,
        "wrong number of fields": 1,
        "user id is not an integer": 1,
        "rating is not a number": 1,
        "quote that is never closed": 1,
        "NUL byte": 1,
    }
    assert rows(database, "SELECT file, line, reason, raw FROM tterec.rejected_rows ORDER BY line")[
        :3
    ] == [
        ("r.csv", 5, "rating is outside 0 to 10", "2,A,11"),
        ("r.csv", 6, "no user id", ",A,5"),
        ("r.csv", 7, "no ISBN", "2,,5"),
    ]
    assert rows(database, "SELECT line, raw FROM tterec.rejected_rows ORDER BY line")[-2:] == [
        (12, '2,"B,5'),
        (13, "2,B\N{SYMBOL FOR NULL},5"),
    ]
    # The later one of two ratings for a pair won.
    assert ratings_of(database) == [(1, "A", 7), (2, "B", 3)]


def test_the_later_of_two_ratings_wins_even_if_it_is_unrated(
    database: Database, tmp_path: Path
) -> None:
    head = "User-ID,ISBN,Book-Rating\n"
    load(database, ratings=write(tmp_path / "a.csv", head + "1,A,5\n1,A,0\n2,A,0\n2,A,4\n3,A,9\n"))
    assert ratings_of(database) == [(1, "A", None), (2, "A", 4), (3, "A", 9)]
    summary = load(database, ratings=write(tmp_path / "b.csv", head + "2,A,0\n3,A,9\n"))
    assert ratings_of(database) == [(1, "A", None), (2, "A", None), (3, "A", 9)]
    assert (summary.files[0].new, summary.files[0].changed) == (0, 1)


def test_of_two_records_for_a_book_or_user_the_later_wins_and_gaps_stay_filled(
    database: Database, tmp_path: Path
) -> None:
    books = "isbn,title,author,year\nA,Old,Ann,1990\nA,New,,\n"
    users = "user_id,location,age\n1,here,20\n1,there,\n1,,NULL\n"
    load(
        database,
        users=write(tmp_path / "u.csv", users),
        books=write(tmp_path / "b.csv", books),
    )
    assert rows(database, "SELECT title, author, year FROM tterec.books") == [("New", "Ann", 1990)]
    assert rows(database, "SELECT location, age FROM tterec.users") == [("there", 20)]
    load(database, books=write(tmp_path / "c.csv", "isbn,title,author\na,,Bea\n"))
    assert rows(database, "SELECT title, author, year FROM tterec.books") == [("New", "Bea", 1990)]


def test_a_rating_creates_its_user_and_a_stub_that_a_later_load_completes(
    database: Database, files: dict[str, Path]
) -> None:
    summary = load(database, ratings=files["ratings"])
    assert (summary.stubs, summary.users_created) == (2, 2)
    stubs = rows(database, "SELECT book_id, isbn, title FROM tterec.books ORDER BY book_id")
    assert stubs == [(1, "038550120X", None), (2, "0684867621", None)]
    completed = load(database, users=files["users"], books=files["books"])
    assert [(file.new, file.changed) for file in completed.files] == [(0, 2), (0, 2)]
    assert rows(database, "SELECT book_id, title FROM tterec.books ORDER BY book_id") == [
        (1, 'One, "two"'),
        (2, "Three"),
    ]
    # Ratings loaded again take nothing from what is known now.
    assert load(database, ratings=files["ratings"]).changed == 0


def test_zero_can_be_a_rating(database: Database, files: dict[str, Path]) -> None:
    load(database, **files, zero_is_a_rating=True)
    assert ratings_of(database)[1] == (1, "0684867621", 0)


def test_times_are_kept_and_a_file_without_them_takes_none_away(
    database: Database, tmp_path: Path
) -> None:
    timed = "User-ID,ISBN,Book-Rating,Timestamp\n1,A,5,2023-11-14 22:13:20\n2,A,5,\n3,A,5,soon\n"
    summary = load(database, ratings=write(tmp_path / "r.csv", timed))
    assert summary.repairs == {"time that cannot be read": 1}
    query = "SELECT user_id, extract(epoch FROM rated_at)::bigint FROM tterec.ratings ORDER BY 1"
    assert rows(database, query) == [(1, 1_700_000_000), (2, None), (3, None)]
    plain = "User-ID,ISBN,Book-Rating\n1,A,6\n"
    assert load(database, ratings=write(tmp_path / "r.csv", plain)).changed == 1
    assert rows(database, query)[0] == (1, 1_700_000_000)


def test_an_app_goes_on_inserting_without_ids(database: Database, tmp_path: Path) -> None:
    huge = "user_id\n5\n9223372036854775807\n-3\n"
    load(database, users=write(tmp_path / "u.csv", huge))
    insert = "INSERT INTO tterec.users (location) VALUES ('app') RETURNING user_id"
    assert rows(database, insert) == [(6,)]
    load(database, users=write(tmp_path / "u.csv", "user_id\n3\n"))
    assert rows(database, insert) == [(7,)]
    load(database, ratings=write(tmp_path / "r.csv", "user_id,isbn,rating\n900,A,5\n"))
    assert rows(database, insert) == [(901,)]
    insert = "INSERT INTO tterec.books (isbn) VALUES ('app') RETURNING book_id"
    assert rows(database, insert) == [(2,)]


def test_rows_of_an_app_stay_and_are_joined(database: Database, files: dict[str, Path]) -> None:
    with database.connect() as connection:
        connection.execute("INSERT INTO tterec.users (user_id, age) VALUES (1, 77), (50, 5)")
        connection.execute("INSERT INTO tterec.books (isbn, title) VALUES ('0684867621', 'Mine')")
        connection.execute("INSERT INTO tterec.ratings VALUES (1, 1, 3), (50, 1, 4)")
    summary = load(database, **files)
    assert [(file.new, file.changed) for file in summary.files] == [(1, 1), (1, 1), (2, 1)]
    assert rows(database, "SELECT age FROM tterec.users ORDER BY user_id") == [(25,), (None,), (5,)]
    assert ratings_of(database) == [
        (1, "038550120X", 8),
        (1, "0684867621", None),
        (2, "038550120X", 10),
        (50, "0684867621", 4),
    ]


def test_columns_of_no_use_are_said_once(database: Database, tmp_path: Path) -> None:
    said: list[Progress] = []
    path = write(tmp_path / "u.csv", "user_id,mood,shoe size\n1,good,42\n2,bad,43\n")
    load(database, users=path, progress=said.append)
    assert [step.message for step in said if step.message] == ["u.csv: ignoring mood, shoe size"]


def test_progress_reaches_the_size_of_each_file(database: Database, files: dict[str, Path]) -> None:
    steps: list[Progress] = []
    load(database, **files, progress=steps.append)
    for path in files.values():
        last = [step for step in steps if step.stage == path.name][-1]
        assert last.done == last.total == path.stat().st_size


def test_rejected_rows_of_any_content_are_stored(database: Database, tmp_path: Path) -> None:
    path = write(tmp_path / "odd\tname.csv", "user_id,location\n1,a\\N\t\\.,\\\n\\.\nNULL,ü\n")
    load(database, users=path)
    assert rows(database, "SELECT file, line, raw FROM tterec.rejected_rows ORDER BY line") == [
        ("odd\tname.csv", 2, "1,a\\N\t\\.,\\"),
        ("odd\tname.csv", 3, "\\."),
        ("odd\tname.csv", 4, "NULL,ü"),
    ]


@pytest.mark.parametrize(
    ("dirt", "said"),
    [
        (
            {"users": "user_id,age\n1,30\n2,244\n3,x\n"},
            "users.csv, line 3: impossible age: 2,244; nothing was loaded",
        ),
        ({"users": "user_id,age\n1\n"}, "users.csv, line 2: wrong number of fields"),
        ({"books": "isbn,title\nA,b\n\n a,b\n"}, "books.csv, line 4: ISBN in lower case"),
        (
            {"users": "user_id\n1\n", "ratings": "user_id,isbn,rating\n1,A,5\n1,A,11\n"},
            "ratings.csv, line 2: book A is in no books file",
        ),
        (
            {"books": "isbn,title\nA,b\n", "ratings": "user_id,isbn,rating\n7,A,5\n"},
            "ratings.csv, line 2: user 7 is in no users file",
        ),
        (
            {
                "users": "user_id\n1\n",
                "books": "isbn,title\nA,b\n",
                "ratings": "user_id,isbn,rating\n1,A,5\n1,A,11\n1,B,5\n",
            },
            "ratings.csv, line 3: rating is outside 0 to 10: 1,A,11; nothing",
        ),
    ],
)
def test_a_strict_load_refuses_the_first_fault_and_leaves_no_trace(
    database: Database, tmp_path: Path, dirt: dict[str, str], said: str
) -> None:
    paths: dict[str, Any] = {
        kind: write(tmp_path / f"{kind}.csv", text) for kind, text in dirt.items()
    }
    with pytest.raises(errors.LoadError) as caught:
        load(database, **paths, strict=True)
    assert str(caught.value).startswith(said)
    assert versions(database) == []


def test_a_strict_load_takes_clean_files(database: Database, tmp_path: Path) -> None:
    summary = load(
        database,
        users=write(tmp_path / "u.csv", "user_id,age\n1,30\n2,NULL\n"),
        books=write(tmp_path / "b.csv", "isbn,title\nA,b\nA,c\n"),
        ratings=write(tmp_path / "r.csv", "user_id,isbn,rating\n1,A,0\n"),
        strict=True,
    )
    assert summary.changed == 4


@pytest.mark.parametrize("later", [b"", b"\x1f\x8b\x08 no gzip", b"ISBN,Book-Title\nA,b\n"])
def test_a_file_that_cannot_be_read_keeps_the_others_out(
    database: Database, files: dict[str, Path], later: bytes
) -> None:
    write(files["ratings"], later)
    with pytest.raises(errors.LoadError, match=r"Ratings\.csv"):
        load(database, **files)
    assert versions(database) == []


def test_a_gzip_cut_short_leaves_the_database_as_it_was(
    database: Database, files: dict[str, Path]
) -> None:
    lines = "".join(f"{user},A{user % 999},5\n" for user in range(200_000))
    whole = gzip.compress(f"User-ID,ISBN,Book-Rating\n{lines}".encode())
    write(files["ratings"], whole[:-1000])
    with pytest.raises(errors.LoadError, match="broken gzip"):
        load(database, **files)
    assert versions(database) == []


def test_a_load_of_nothing_is_refused(database: Database) -> None:
    with pytest.raises(errors.InvalidArgument, match="--ratings"):
        load(database)


def test_a_database_without_schema_names_the_command(
    empty_database: Database, files: dict[str, Path]
) -> None:
    with pytest.raises(errors.SchemaOutdated, match="run: tterec db upgrade"):
        load(empty_database, **files)


def test_two_lines_of_a_location_are_kept_in_one_row(database: Database, tmp_path: Path) -> None:
    path = write(
        tmp_path / "u.csv", '"User-ID";"Location"\r\n"1";"a,\nb"\r\n"2";"c"\r\n"x";"d"\r\n'
    )
    load(database, users=path)
    assert rows(database, "SELECT location FROM tterec.users ORDER BY user_id") == [
        ("a,\nb",),
        ("c",),
    ]
    assert rows(database, "SELECT line FROM tterec.rejected_rows") == [(5,)]
