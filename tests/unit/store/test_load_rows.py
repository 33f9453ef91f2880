"""Values as they are stored: what is mended, what makes a record unusable."""

from __future__ import annotations

from datetime import UTC, datetime, tzinfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tterec.store import load_rows
from tterec.store.dialects import FileKind, read_header
from tterec.store.load_rows import Row, Unusable, normalised_isbn, row_maker

HEADERS: dict[FileKind, str] = {
    "users": "user_id,location,age",
    "books": "isbn,title,author,year,publisher,image_url_s,image_url_m,image_url_l",
    "ratings": "user_id,isbn,rating,rated_at",
}
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


class Repairs:
    """Findings of a row maker: it mends or raises, and leaves rejecting to others."""

    def __init__(self) -> None:
        self.lines: list[int] = []
        self.all: list[str] = []
        self.rejected: list[tuple[int, str, str]] = []

    def repair(self, line: int, what: str) -> None:
        self.lines.append(line)
        self.all.append(what)

    def reject(self, line: int, reason: str, raw: str) -> None:
        self.rejected.append((line, reason, raw))


def maker(kind: FileKind, **options: bool) -> tuple[Row, Repairs]:
    repairs = Repairs()
    return row_maker(kind, read_header(HEADERS[kind], kind, "file"), repairs, **options), repairs


def row(kind: FileKind, *fields: str, **options: bool) -> tuple[list[str], list[str]]:
    make, repairs = maker(kind, **options)
    made = make(7, list(fields))
    assert made.endswith("\n")
    assert made.startswith("7\t")
    return made[:-1].split("\t")[1:], repairs.all


def test_a_clean_record_is_kept_as_it_is() -> None:
    assert row("users", "1", "oslo, norway", "18") == (["1", "oslo, norway", "18"], [])
    assert row("ratings", "1", "038550120X", "7", "") == (["1", "038550120X", "7.0", "\\N"], [])


def test_columns_that_a_file_lacks_are_null() -> None:
    header = read_header("age;user_id", "users", "file")
    assert row_maker("users", header, Repairs())(3, ["18", "5"]) == "3\t5\t\\N\t18\n"
    header = read_header("isbn;user_id;rating", "ratings", "file")
    assert row_maker("ratings", header, Repairs())(3, ["X", "5", "8"]) == "3\t5\tX\t8.0\t\\N\n"


@pytest.mark.parametrize(
    ("age", "kept", "mended"),
    [
        ("5", "5", 0),
        ("110", "110", 0),
        ("4", "\\N", 1),
        ("0", "\\N", 1),
        ("111", "\\N", 1),
        ("244", "\\N", 1),
        ("-20", "\\N", 1),
        ("34.0", "34", 0),
        ("34.5", "\\N", 1),
        ("1e400", "\\N", 1),
        ("nan", "\\N", 1),
        ("thirty", "\\N", 1),
        ("NULL", "\\N", 0),
        ("", "\\N", 0),
        (" 30 ", "30", 1),
    ],
)
def test_an_age_that_cannot_be_is_null(age: str, kept: str, mended: int) -> None:
    fields, repairs = row("users", "1", "here", age)
    assert fields[2] == kept
    assert len(repairs) == mended


def test_a_mended_value_is_counted_each_time() -> None:
    make, repairs = maker("users")
    for _ in range(3):
        make(1, ["1", "here", "244"])
        make(1, ["1", "here", " 20"])
    assert len(repairs.all) == 6


@pytest.mark.parametrize(
    ("year", "kept"),
    [
        ("1999", "1999"),
        ("0", "\\N"),
        (str(datetime.now(UTC).year + 1), str(datetime.now(UTC).year + 1)),
        (str(datetime.now(UTC).year + 2), "\\N"),
        ("DK Publishing Inc", "\\N"),
    ],
)
def test_a_year_of_zero_or_in_the_future_is_null(year: str, kept: str) -> None:
    fields, repairs = row("books", "1", "t", "a", year, "p", "", "", "")
    assert fields[3] == kept
    assert len(repairs) == (kept == "\\N")


def test_texts_are_trimmed_and_html_entities_read() -> None:
    fields, repairs = row(
        "books", "1", " Tom &amp; Jerry ", "AT&T &copy 1", "1999", "Simon &#38; S&uuml;", "", "", ""
    )
    assert fields[1:5] == ["Tom & Jerry", "AT&T &copy 1", "1999", "Simon & Sü"]
    assert sorted(repairs) == ["HTML entity in a text"] * 2 + ["blanks around a value"]


def test_an_address_keeps_its_ampersands() -> None:
    url = "http://images.example/?a=1&amp;b=2&copy;=3"
    fields, repairs = row("books", "1", "t", "a", "1999", "p", url, "", "NULL")
    assert fields[5:] == [url, "\\N", "\\N"]
    assert repairs == []


def test_what_is_special_to_copy_is_escaped() -> None:
    fields, repairs = row("users", "1", 'a\tb\nc\\d\r"e', "")
    assert fields[1] == 'a\\tb\\nc\\\\d\\r"e'
    assert repairs == []
    fields, _ = row("users", "1", "\\N", "")
    assert fields[1] == "\\\\N"


@pytest.mark.parametrize(
    ("isbn", "kept"),
    [
        ("039592720x", "039592720X"),
        (" 0-395-92720-X ", "039592720X"),
        ("0 395 92720 x", "039592720X"),
        ("0.330.28450.7", "0.330.28450.7"),
        ("\\0432534220\\", "\\\\0432534220\\\\"),
    ],
)
def test_an_isbn_is_normalised(isbn: str, kept: str) -> None:
    fields, repairs = row("ratings", "1", isbn, "5", "")
    assert fields[1] == kept
    assert bool(repairs) == (normalised_isbn(isbn) != isbn)


@given(TEXTS)
def test_normalising_an_isbn_twice_changes_nothing_more(isbn: str) -> None:
    assert normalised_isbn(normalised_isbn(isbn)) == normalised_isbn(isbn)


@pytest.mark.parametrize(
    ("rating", "kept", "with_zero"),
    [
        ("0", "\\N", "0"),
        ("0.0", "\\N", "0"),
        ("-0", "\\N", "0"),
        ("1e-60", "\\N", "0"),
        ("10", "10.0", "10.0"),
        ("7.5", "7.5", "7.5"),
        ("", "\\N", "\\N"),
        ("NULL", "\\N", "\\N"),
    ],
)
def test_a_rating_of_zero_means_unrated_unless_told(rating: str, kept: str, with_zero: str) -> None:
    assert row("ratings", "1", "A", rating, "") == (["1", "A", kept, "\\N"], [])
    fields, repairs = row("ratings", "1", "A", rating, "", zero_is_a_rating=True)
    assert (fields[2], repairs) == (with_zero, [])


@pytest.mark.parametrize(
    ("user", "isbn", "rating", "reason"),
    [
        ("1", "A", "11", "rating is outside 0 to 10"),
        ("1", "A", "-1", "rating is outside 0 to 10"),
        ("1", "A", "10.001", "rating is outside 0 to 10"),
        ("1", "A", "nan", "rating is not a number"),
        ("1", "A", "inf", "rating is not a number"),
        ("1", "A", "1e999", "rating is not a number"),
        ("1", "A", "1_0", "rating is not a number"),
        ("1", "A", "٣", "rating is not a number"),
        ("1", "A", "good", "rating is not a number"),
        ("", "A", "5", "no user id"),
        ("NULL", "A", "5", "no user id"),
        ("1.5", "A", "5", "user id is not an integer"),
        ("٣", "A", "5", "user id is not an integer"),
        ("1_0", "A", "5", "user id is not an integer"),
        ("9223372036854775808", "A", "5", "user id is out of range"),
        ("-9223372036854775809", "A", "5", "user id is out of range"),
        ("9" * 5000, "A", "5", "user id is out of range"),
        ("1", "", "5", "no ISBN"),
        ("1", " - ", "5", "no ISBN"),
        ("1", "x" * 256, "5", "ISBN of more than 255 characters"),
    ],
)
def test_a_rating_that_cannot_be_kept_says_why(
    user: str, isbn: str, rating: str, reason: str
) -> None:
    with pytest.raises(Unusable) as caught:
        row("ratings", user, isbn, rating, "")
    assert str(caught.value) == reason


@pytest.mark.parametrize(
    ("user", "kept"),
    [
        ("9223372036854775807", "9223372036854775807"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("+12", "12"),
        ("0000000000000000000000012", "12"),
        ("-0", "-0"),
    ],
)
def test_any_bigint_is_a_user_id(user: str, kept: str) -> None:
    fields, _ = row("users", user, "", "")
    assert fields[0] == kept


@pytest.mark.parametrize(
    ("time", "kept"),
    [
        ("1700000000", "2023-11-14T22:13:20+00:00"),
        ("1700000000.5", "2023-11-14T22:13:20.500000+00:00"),
        ("2023-11-14 22:13:20", "2023-11-14T22:13:20+00:00"),
        ("2023-11-14T22:13:20+02:00", "2023-11-14T20:13:20+00:00"),
        ("2023-11-14", "2023-11-14T00:00:00+00:00"),
        ("20231114", "2023-11-14T00:00:00+00:00"),
        ("", "\\N"),
        ("NULL", "\\N"),
    ],
)
def test_a_time_is_iso_or_unix_seconds(time: str, kept: str) -> None:
    assert row("ratings", "1", "A", "5", time) == (["1", "A", "5.0", kept], [])


@pytest.mark.parametrize("time", ["yesterday", "1e300", "99999999999999", "2023-13-01"])
def test_a_time_that_cannot_be_read_is_null(time: str) -> None:
    fields, repairs = row("ratings", "1", "A", "5", time)
    assert fields[3] == "\\N"
    assert repairs == ["time that cannot be read"]


@given(st.sampled_from(["users", "books", "ratings"]), st.data())
def test_any_fields_make_a_row_or_are_unusable(kind: FileKind, data: st.DataObject) -> None:
    make, _ = maker(kind)
    width = len(HEADERS[kind].split(","))
    fields = data.draw(st.lists(TEXTS, min_size=width, max_size=width))
    try:
        made = make(1, fields)
    except Unusable:
        return
    assert made.count("\t") == width
    assert made.count("\n") == 1
    assert "\r" not in made


def test_a_time_before_1970_is_kept_on_windows_too(monkeypatch: pytest.MonkeyPatch) -> None:
    class OfWindows(datetime):
        @classmethod
        def fromtimestamp(cls, timestamp: float, tz: tzinfo | None = None) -> OfWindows:
            if timestamp < 0:
                raise OSError(22, "Invalid argument")
            return super().fromtimestamp(timestamp, tz)

    monkeypatch.setattr(load_rows, "datetime", OfWindows)
    fields, repairs = row("ratings", "1", "A", "5", "-86400.25")
    assert (fields[3], repairs) == ("1969-12-30T23:59:59.750000+00:00", [])
