"""Which dialect a header line is of, and which column stands where."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tterec import errors
from tterec.store.dialects import KAGGLE, ORIGINAL, Dialect, FileKind, detected, read_header, split

DIALECTS = [KAGGLE, ORIGINAL, Dialect(";", escapes=False)]


@pytest.mark.parametrize(
    ("line", "dialect"),
    [
        ("User-ID,ISBN,Book-Rating\n", KAGGLE),
        ('"User-ID","ISBN","Book-Rating"\r\n', KAGGLE),
        ('"User-ID";"ISBN";"Book-Rating"\r\n', ORIGINAL),
        ("User-ID;ISBN;Book-Rating\n", Dialect(";", escapes=False)),
        ("User-ID\n", KAGGLE),
    ],
)
def test_the_header_tells_the_dialect(line: str, dialect: Dialect) -> None:
    assert detected(line) == dialect


def test_columns_are_found_in_any_order_case_and_spelling() -> None:
    header = read_header("book_rating, USER ID ,Isbn\n", "ratings", "r.csv")
    assert header.positions == (1, 2, 0, None)
    assert header.width == 3
    assert header.ignored == ()


def test_columns_of_no_use_are_named() -> None:
    header = read_header("user_id,isbn,rating,timestamp,mood\n", "ratings", "r.csv")
    assert header.positions == (0, 1, 2, 3)
    assert header.ignored == ("mood",)


@pytest.mark.parametrize(
    ("kind", "line", "said"),
    [
        ("ratings", "ISBN,Book-Title\n", "give it as --books"),
        ("ratings", "User-ID,Location,Age\n", "give it as --users"),
        ("books", "User-ID,ISBN,Book-Rating\n", "give it as --ratings"),
        ("users", "User-ID,ISBN,Book-Rating\n", "give it as --ratings"),
        ("users", "ISBN,Book-Title\n", "give it as --books"),
    ],
)
def test_a_file_of_another_kind_is_recognised(kind: FileKind, line: str, said: str) -> None:
    with pytest.raises(errors.LoadError) as caught:
        read_header(line, kind, "some.csv")
    assert said in str(caught.value)
    assert line.strip().split(",")[0] in str(caught.value)


def test_a_missing_column_is_named_with_those_that_are_there() -> None:
    with pytest.raises(errors.LoadError) as caught:
        read_header("ISBN,Stars\n", "ratings", "r.csv")
    message = str(caught.value)
    assert "User-ID, ISBN, Book-Rating" in message
    assert "ISBN, Stars" in message


def test_two_columns_for_one_thing_are_refused() -> None:
    with pytest.raises(errors.LoadError, match="two columns for user_id"):
        read_header("User-ID,user_id,ISBN,rating\n", "ratings", "r.csv")


def test_a_header_of_rubbish_makes_a_short_line() -> None:
    with pytest.raises(errors.LoadError) as caught:
        read_header("\x00\x1b[2J\n" + "x" * 10_000, "users", "u.csv.gz")
    message = str(caught.value)
    assert len(message) < 400
    assert message.isprintable()
    assert "is not gzip" in message


@pytest.mark.parametrize(
    ("dialect", "line", "fields"),
    [
        (KAGGLE, '1,"a "nick" b",2\n', ["1", 'a "nick" b', "2"]),
        (KAGGLE, '1,"say ""hi"" "x"\r\n', ["1", 'say "hi" "x']),
        (KAGGLE, '1,5" floppy,\n', ["1", '5" floppy', ""]),
        (ORIGINAL, '"1";"\\"n/a\\", "x";NULL\r\n', ["1", '"n/a", "x', "NULL"]),
        (KAGGLE, '1,"never closed,2\n', None),
        (ORIGINAL, '"1";"closed by no quote\\";2\n', None),
        (KAGGLE, "", [""]),
    ],
)
def test_a_line_with_stray_quotes_is_split_where_quotes_meet_delimiters(
    dialect: Dialect, line: str, fields: list[str] | None
) -> None:
    assert split(line, dialect) == fields


@given(st.text(), st.sampled_from(DIALECTS))
def test_splitting_takes_any_text(line: str, dialect: Dialect) -> None:
    fields = split(line, dialect)
    assert fields is None or len(fields) >= 1


@given(
    st.lists(st.text(st.characters(exclude_characters='\r\n\0"\\')), min_size=1, max_size=5),
    st.sampled_from(DIALECTS),
)
def test_splitting_agrees_with_the_csv_module(fields: list[str], dialect: Dialect) -> None:
    out = io.StringIO()
    csv.writer(out, delimiter=dialect.delimiter, quoting=csv.QUOTE_ALL).writerow(fields)
    assert split(out.getvalue(), dialect) == fields
