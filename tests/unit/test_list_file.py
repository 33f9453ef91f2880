"""A file of lists that was cut off anywhere keeps the lists that are whole, and no other."""

from __future__ import annotations

import csv
import errno
import io
import logging
import os
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tterec.cli import list_file, lists
from tterec.errors import InvalidArgument
from tterec.records import Recommendation

RUN = {"k": 3, "generation": 1}
NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=4).filter(
    lambda name: "\0" not in name
)
SHOP = st.lists(st.tuples(NAMES, st.lists(NAMES, max_size=4)), max_size=8)


def listed(isbns: list[str]) -> list[Recommendation]:
    return [
        Recommendation(rank, rank, isbn, None, 1 / rank, None, "history")
        for rank, isbn in enumerate(isbns, start=1)
    ]


def text(shop: list[tuple[str, list[str]]]) -> str:
    out = io.StringIO()
    lists.write_csv(out, lists.MANY, [])
    lists.write_many(out, [(user, listed(isbns)) for user, isbns in shop])
    return out.getvalue()


def cut_off(folder: Path, content: bytes) -> Path:
    (folder / ".lists.csv.part").write_bytes(content)
    (folder / ".lists.csv.run").write_text('{"k": 3, "generation": 1}')
    return folder / "lists.csv"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(shop=SHOP, share=st.floats(0, 1), zeros=st.booleans())
def test_what_is_left_of_a_crash_is_whole(
    tmp_path: Path, shop: list[tuple[str, list[str]]], share: float, zeros: bool
) -> None:
    whole = text(shop).encode()
    kept = whole[: int(share * len(whole))]
    # A computer that lost its power may leave zeros where nothing was written.
    path = cut_off(tmp_path, kept + bytes(100 * zeros))
    filled = [(user, isbns) for user, isbns in shop if isbns]
    with list_file.opened(path, RUN, resume=True) as (_, done):
        found = (tmp_path / ".lists.csv.part").read_bytes()
        count = sum(done.values())
        assert found == text(filled[:count]).encode()
        assert done == Counter(user for user, _ in filled[:count])
        complete = sum(
            text(filled[:n]).encode() == kept[: len(text(filled[:n]).encode())]
            for n in range(1, len(filled) + 1)
        )
        assert count >= complete - 1  # the last one may go on in what is lost


def test_it_appears_whole_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "lists.csv"
    path.write_text("of yesterday")
    with list_file.opened(path, RUN, resume=False) as (out, done):
        assert not done
        lists.write_many(out, [("a", listed(["x", "y"]))])
        out.flush()
        assert path.read_text() == "of yesterday"
    assert path.read_text() == text([("a", ["x", "y"])])
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_keeps_what_is_written_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "lists.csv"

    def fail() -> None:
        with list_file.opened(path, RUN, resume=False) as (out, _):
            lists.write_many(out, [("a", listed(["x"])), ("b", listed(["x"]))])
            raise KeyError

    with caplog.at_level(logging.INFO, "tterec"), pytest.raises(KeyError):
        fail()
    assert any("--resume" in message for message in caplog.messages)
    assert not path.exists()
    with list_file.opened(path, RUN, resume=True) as (out, done):
        assert done == {"a": 1}
        lists.write_many(out, [("b", listed(["x"])), ("c", listed(["y"]))])
    assert path.read_text() == text([("a", ["x"]), ("b", ["x"]), ("c", ["y"])])


def test_a_failure_before_anything_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lists.csv"
    with pytest.raises(KeyError), list_file.opened(path, RUN, resume=False):
        raise KeyError
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("run", "complaint"),
    [
        (RUN | {"k": 4}, "was begun with k 3, now it is 4; leave out --resume to start over"),
        (RUN | {"generation": None}, "begun with generation 1, now it is null"),
        (RUN | {"rules": "x"}, "begun with rules null"),
        ({"k": 3}, "begun with generation 1"),
    ],
)
def test_another_run_is_not_gone_on_with(
    tmp_path: Path, run: dict[str, object], complaint: str
) -> None:
    path = cut_off(tmp_path, text([("a", ["x"]), ("b", ["x"])]).encode())
    with pytest.raises(InvalidArgument, match=complaint), list_file.opened(path, run, resume=True):
        pass
    with list_file.opened(path, RUN, resume=True) as (_, done):
        assert done == {"a": 1}


@pytest.mark.parametrize("written", [None, "", "{", "[1]", '"x"'])
def test_a_file_of_an_unknown_run_is_not_gone_on_with(tmp_path: Path, written: str | None) -> None:
    path = cut_off(tmp_path, text([("a", ["x"])]).encode())
    described = tmp_path / ".lists.csv.run"
    described.unlink() if written is None else described.write_text(written)
    with (
        pytest.raises(InvalidArgument, match="leave out --resume"),
        list_file.opened(path, RUN, resume=True),
    ):
        pass


def test_without_resume_it_starts_over(tmp_path: Path) -> None:
    path = cut_off(tmp_path, text([("a", ["x"]), ("b", ["x"])]).encode())
    with list_file.opened(path, {"k": 9}, resume=False) as (_, done):
        assert not done
    assert path.read_text() == text([])


def test_where_nothing_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "lists.csv"
    with (
        pytest.raises(InvalidArgument, match="cannot write"),
        list_file.opened(path, RUN, resume=False),
    ):
        pass


def test_a_disk_that_fills_up_while_resuming_leaves_what_was_written_and_no_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = cut_off(tmp_path, text([("a", ["x"]), ("b", ["x"])]).encode())
    before = {one: one.read_bytes() for one in tmp_path.iterdir()}

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(list_file, "_write_list", full)
        with (
            pytest.raises(InvalidArgument, match="No space left"),
            list_file.opened(path, RUN, resume=True),
        ):
            pass
    assert {one: one.read_bytes() for one in tmp_path.iterdir()} == before
    with list_file.opened(path, RUN, resume=True) as (_, done):
        assert done == {"a": 1}


def test_any_text_comes_back_from_csv() -> None:
    odd = 'a\rb\n"c", d\r\n'
    out = io.StringIO(newline="")
    lists.write_csv(out, ("title", "n"), [(odd, 1), ("plain", None)])
    assert out.getvalue().endswith("\nplain,\n")
    assert list(csv.reader(io.StringIO(out.getvalue(), newline=""))) == [
        ["title", "n"],
        [odd, "1"],
        ["plain", ""],
    ]
