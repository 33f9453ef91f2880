"""Records with their line numbers, from well-made and from hopeless files."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tterec import errors
from tterec.store.csv_lines import MAX_BYTES, InputFile
from tterec.store.csv_records import MAX_FIELD, MAX_RAW, Records
from tterec.store.dialects import FileKind

USERS = b"User-ID,Location,Age\n"
BX_USERS = b'"User-ID";"Location";"Age"\r\n'


class Found:
    """Findings, kept in lists."""

    def __init__(self) -> None:
        self.repaired: list[tuple[int, str]] = []
        self.rejected: list[tuple[int, str, str]] = []

    def repair(self, line: int, what: str) -> None:
        self.repaired.append((line, what))

    def reject(self, line: int, reason: str, raw: str) -> None:
        self.rejected.append((line, reason, raw))


class Read:
    """A whole file, read."""

    def __init__(self, data: bytes, kind: FileKind = "users") -> None:
        self.found = Found()
        raw = io.BufferedReader(io.BytesIO(data))  # type: ignore[arg-type]
        records = Records(InputFile(raw, "file.csv", len(data)), kind, self.found)
        self.records = [(line, list(fields)) for line, fields in records]
        self.count = records.count

    @property
    def reasons(self) -> list[tuple[int, str]]:
        return [(line, reason) for line, reason, _ in self.found.rejected]


def test_the_kaggle_dialect_is_read() -> None:
    read = Read(USERS + b'1,"a, ""b"", c",20\n2,d,\n')
    assert read.records == [(2, ["1", 'a, "b", c', "20"]), (3, ["2", "d", ""])]
    assert read.found.rejected == read.found.repaired == []


def test_the_original_dialect_is_read() -> None:
    line = '"268";"århus, \\"n/a\\", denmark";NULL\r\n'.encode("latin-1")
    read = Read(BX_USERS + line + b'"9";"a\\\\";"3"\r\n')
    assert read.records == [
        (2, ["268", 'århus, "n/a", denmark', "NULL"]),
        (3, ["9", "a\\", "3"]),
    ]


def test_a_record_over_two_lines_has_the_number_of_the_first() -> None:
    read = Read(BX_USERS + b'"1";"here\nand there";"20"\r\n"2";"x";NULL\r\n')
    assert read.records == [(2, ["1", "here\nand there", "20"]), (4, ["2", "x", "NULL"])]


def test_blank_lines_are_no_records_but_count_as_lines() -> None:
    read = Read(b"\n" + USERS + b"\n1,a,2\n  \n\r\n2,b,3\n\n")
    assert [line for line, _ in read.records] == [4, 7]
    assert read.count == 2


def test_a_byte_order_mark_and_a_missing_last_line_end_are_accepted() -> None:
    read = Read(b"\xef\xbb\xbf" + USERS + b"1,a,2")
    assert read.records == [(2, ["1", "a", "2"])]


def test_a_wrong_number_of_fields_is_rejected_with_its_text() -> None:
    read = Read(USERS + b'1,a,2\n2,"b\nc",3,4\n\n""\n3,d\n4,e,5\n')
    assert [fields[0] for _, fields in read.records] == ["1", "4"]
    assert read.found.rejected == [
        (3, "wrong number of fields", '2,"b\nc",3,4'),
        (6, "wrong number of fields", '""'),
        (7, "wrong number of fields", "3,d"),
    ]
    assert read.count == 5


def test_a_stray_quote_is_kept_as_text_and_told() -> None:
    read = Read(USERS + b'1,"a "b" c",2\n2,x,3\n')
    assert read.records == [(2, ["1", 'a "b" c', "2"]), (3, ["2", "x", "3"])]
    assert [line for line, _ in read.found.repaired] == [2]


def test_a_stray_carriage_return_is_kept_as_text_and_told() -> None:
    read = Read(USERS + b"1,a\rb,2\n2,x,3\n")
    assert read.records == [(2, ["1", "a\rb", "2"]), (3, ["2", "x", "3"])]
    assert [line for line, _ in read.found.repaired] == [2]


@pytest.mark.parametrize("after", [0, 1, 50_000])
def test_a_quote_that_is_never_closed_costs_its_own_line_only(after: int) -> None:
    tail = b"".join(b"%d,somewhere,30\n" % n for n in range(after))
    read = Read(USERS + b'7,"open,1\n' + tail)
    assert read.reasons == [(2, "quote that is never closed")]
    assert len(read.records) == after
    assert read.records[-1:] == ([(after + 2, [str(after - 1), "somewhere", "30"])] * (after > 0))


def test_two_quotes_that_are_never_closed_do_not_close_each_other() -> None:
    read = Read(USERS + b'1,"a,1\n2,b,2\n3,"c,3\n4,d,4\n')
    assert read.reasons == [
        (2, "quote that is never closed"),
        (4, "quote that is never closed"),
    ]
    assert [fields[0] for _, fields in read.records] == ["2", "4"]


def test_a_nul_byte_is_rejected_and_shown() -> None:
    read = Read(USERS + b"1,a\0b,2\n2,x,3\n")
    assert read.found.rejected == [(2, "NUL byte", "1,a\N{SYMBOL FOR NULL}b,2")]
    assert read.records == [(3, ["2", "x", "3"])]


def test_a_line_beyond_a_mebibyte_is_rejected_and_cut() -> None:
    read = Read(USERS + b"1,a,2\n2," + b"x" * (3 * MAX_BYTES) + b",3\n3,b,4\n")
    assert read.reasons == [(3, "longer than 1 MiB")]
    assert len(read.found.rejected[0][2]) <= MAX_RAW + 1
    assert read.records == [(2, ["1", "a", "2"]), (4, ["3", "b", "4"])]


def test_a_line_beyond_a_mebibyte_at_the_end_is_rejected() -> None:
    read = Read(USERS + b"1,a,2\n" + b"x" * (3 * MAX_BYTES))
    assert read.reasons == [(3, "longer than 1 MiB")]
    assert read.count == 2


def test_a_field_beyond_its_limit_is_rejected() -> None:
    read = Read(USERS + b"1," + b"x" * (MAX_FIELD + 1) + b",2\n2,b,3\n")
    assert read.reasons == [(2, f"field of more than {MAX_FIELD} characters")]
    assert read.records == [(3, ["2", "b", "3"])]


def test_a_record_of_endless_short_quoted_lines_ends() -> None:
    # As if another library had lifted the csv module's limit.
    before = csv.field_size_limit(2**30)
    try:
        read = Read(USERS + b'1,"' + (b"x" * 99 + b"\n") * (MAX_BYTES // 50) + b"2,b,3\n")
    finally:
        csv.field_size_limit(before)
    assert read.reasons[0] == (2, "quote that is never closed")
    assert read.records[-1][1] == ["2", "b", "3"]


def test_a_line_in_another_encoding_is_kept_and_told() -> None:
    read = Read(USERS + "1,åå,2\n2,éé,3\n".encode() + "3,öö,4\n".encode("latin-1"))
    assert [fields[1] for _, fields in read.records] == ["åå", "éé", "öö"]
    assert [line for line, _ in read.found.repaired] == [4]


@pytest.mark.parametrize("data", [b"\n\n", b"\xef\xbb\xbf", gzip.compress(b"", mtime=0)])
def test_a_file_without_a_header_is_an_error(data: bytes) -> None:
    with pytest.raises(errors.LoadError, match="nothing but blank lines"):
        Read(data)


def test_a_first_line_without_end_is_an_error() -> None:
    with pytest.raises(errors.LoadError, match="its first line has no end"):
        Read(b"x" * (2 * MAX_BYTES))


def kaggle(rows: list[list[str]]) -> bytes:
    out = io.StringIO()
    csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_ALL).writerows(rows)
    return USERS + out.getvalue().encode()


def original(rows: list[list[str]]) -> bytes:
    def quoted(field: str) -> str:
        return '"' + field.replace("\\", "\\\\").replace('"', '\\"') + '"'

    return BX_USERS + "".join(";".join(map(quoted, row)) + "\r\n" for row in rows).encode()


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@given(st.lists(st.lists(TEXTS, min_size=3, max_size=3)), st.sampled_from([kaggle, original]))
def test_any_text_survives_either_dialect(
    rows: list[list[str]], write: Callable[[list[list[str]]], bytes]
) -> None:
    read = Read(write(rows))
    assert [fields for _, fields in read.records] == rows
    assert read.found.rejected == read.found.repaired == []


def lines_of_rubbish() -> st.SearchStrategy[bytes]:
    pieces = st.sampled_from(
        [b'"', b'""', b",", b";", b"\\", b"\n", b"\r", b"\r\n", b"\0", b"1,a,2\n", b'"1";"a";"2"\n']
    )
    return st.lists(st.one_of(pieces, st.binary(max_size=3)), max_size=40).map(b"".join)


@given(st.sampled_from([USERS, BX_USERS, b""]), lines_of_rubbish())
@example(USERS, b'"\0\n"\n')
@example(USERS, b'1,"\xff\n2,a,3\n')
def test_any_bytes_are_accounted_for(header: bytes, rubbish: bytes) -> None:
    try:
        read = Read(header + rubbish)
    except errors.LoadError:
        return
    assert read.count == len(read.records) + len(read.found.rejected)
    starts = sorted(
        [line for line, _ in read.records] + [line for line, _, _ in read.found.rejected]
    )
    assert len(set(starts)) == len(starts)
    assert all(len(fields) == 3 and "\0" not in "".join(fields) for _, fields in read.records)
    lines = (header + rubbish).count(b"\n") + 1
    assert all(2 <= line <= lines for line in starts)


@given(st.binary(min_size=1))
def test_any_file_is_read_or_refused_in_one_line(data: bytes) -> None:
    try:
        Read(data)
    except errors.LoadError as error:
        said = str(error)
    else:
        said = ""
    assert "\n" not in said
