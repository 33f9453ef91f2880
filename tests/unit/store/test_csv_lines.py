"""Opening files, plain and gzip, and decoding them while they are read."""

from __future__ import annotations

import gzip
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tterec import errors
from tterec.store.csv_lines import Decoder, open_input, split_lines, windows_1252


def read_all(path: Path) -> bytes:
    with open_input(path) as file:
        return b"".join(iter(file.read, b""))


def test_gzip_is_told_by_its_bytes_not_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(gzip.compress(b"hello\n"))
    (tmp_path / "b.csv.gz").write_bytes(b"hello\n")
    assert read_all(tmp_path / "a.csv") == b"hello\n"
    assert read_all(tmp_path / "b.csv.gz") == b"hello\n"


def test_progress_counts_bytes_of_the_file_itself(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(os.urandom(300_000).hex().encode()))
    with open_input(path) as file:
        assert file.total == path.stat().st_size
        assert file.read()
        assert 0 < file.done < file.total
        while file.read():
            pass
        assert file.done == file.total


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"PK\x03\x04rest", "zip archive"),
        ("User-ID".encode("utf-16"), "UTF-16"),
    ],
)
def test_a_file_that_is_no_csv_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(content)
    with pytest.raises(errors.LoadError, match=said):
        read_all(path)


def test_a_missing_file_and_a_directory_are_named(tmp_path: Path) -> None:
    with pytest.raises(errors.LoadError, match=r"nowhere\.csv: No such file"):
        read_all(tmp_path / "nowhere.csv")
    with pytest.raises(errors.LoadError, match="is a directory"):
        read_all(tmp_path)


@pytest.mark.parametrize("broken", ["cut", "spoilt", "followed by rubbish"])
def test_a_broken_gzip_is_an_error(tmp_path: Path, broken: str) -> None:
    data = gzip.compress(os.urandom(10_000))
    data = {
        "cut": data[:-100],
        "spoilt": data[:5_000] + b"\xff" * 100 + data[5_100:],
        "followed by rubbish": data + b"rubbish",
    }[broken]
    (tmp_path / "x.csv.gz").write_bytes(data)
    with pytest.raises(errors.LoadError, match="broken gzip"):
        read_all(tmp_path / "x.csv.gz")


@pytest.mark.skipif(sys.platform == "win32", reason="no named pipes among files")
def test_a_pipe_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    if os.fork() == 0:
        path.write_bytes(b"x" * 100_000)
        os._exit(0)
    with open_input(path) as file:
        assert file.total is None
        assert sum(map(len, iter(file.read, b""))) == 100_000
        assert file.done == 100_000
    os.wait()


def test_ascii_for_megabytes_then_latin_1() -> None:
    decoder = Decoder()
    for _ in range(10):
        assert decoder.lines(b"plain\n" * 1000) == (["plain\n"] * 1000, [])
    assert decoder.encoding is None
    assert decoder.lines("århus\nmalmö\n".encode("latin-1")) == (["århus\n", "malmö\n"], [])
    assert decoder.encoding == "windows-1252"


def test_utf_8_is_kept_and_a_stray_line_is_read_as_windows_1252() -> None:
    decoder = Decoder()
    assert decoder.lines("århus\n".encode()) == (["århus\n"], [])
    mixed = "malmö\n".encode() + "malmö\n".encode("latin-1") + b"plain\n"
    assert decoder.lines(mixed) == (["malmö\n", "malmö\n", "plain\n"], [1])
    assert decoder.encoding == "utf-8"


def test_in_a_mixed_first_block_the_majority_decides() -> None:
    decoder = Decoder()
    lines, strays = decoder.lines("é\n".encode() * 3 + b"\xe9\n")
    assert (decoder.encoding, lines, strays) == ("utf-8", ["é\n"] * 4, [3])
    decoder = Decoder()
    assert decoder.lines("é\n".encode() + b"\xe9\n" * 3)[0] == ["Ã©\n"] + ["é\n"] * 3


def test_windows_1252_refuses_no_byte() -> None:
    text = windows_1252(bytes(range(256)))
    assert len(text) == 256
    assert text[0x80] == "€"
    assert text[0x81] == "\x81"
    assert text[0xE9] == "é"


@given(st.binary())
def test_any_bytes_are_decoded_line_by_line(data: bytes) -> None:
    lines, strays = Decoder().lines(data)
    assert len(lines) == data.count(b"\n") + (not data.endswith(b"\n") and data != b"")
    assert all(0 <= stray < len(lines) for stray in strays)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_utf_8_comes_back_unchanged(text: str) -> None:
    assert "".join(Decoder().lines(text.encode())[0]) == text


def test_only_a_line_feed_ends_a_line() -> None:
    text = "a\x0b\x0c\x1c\x85\u2028\rb\r\nc"
    assert split_lines(text) == ["a\x0b\x0c\x1c\x85\u2028\rb\r\n", "c"]
