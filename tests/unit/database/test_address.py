"""The record of where the embedded server listens."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from tterec.database import address
from tterec.database.address import Address


@pytest.mark.parametrize(
    "found", [Address("/a b/%41/ü?&#"), Address("127.0.0.1", 6000, "p@ss:w/%rd'#? ü")]
)
def test_an_address_is_recorded_and_its_url_read_by_libpq(tmp_path: Path, found: Address) -> None:
    address.record(tmp_path, found)
    assert address.recorded(tmp_path) == found
    read = conninfo_to_dict(found.url())
    assert (read["host"], int(str(read["port"]))) == (found.host, found.port)
    assert read.get("password") == found.password
    assert read["dbname"] == "tterec"
    (file,) = tmp_path.iterdir()
    assert file.stat().st_mode & 0o077 == 0
    address.forget(tmp_path)
    assert address.recorded(tmp_path) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"data_directory": 1}', "\xff"])
def test_a_damaged_record_counts_as_none(tmp_path: Path, text: str) -> None:
    address.record(tmp_path, Address("/x"))
    (file,) = tmp_path.iterdir()
    file.write_text(text, encoding="latin-1")
    assert address.recorded(tmp_path) is None


@pytest.fixture
def icacls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Windows' program for access lists, which notes its arguments and fails where there is a file
    `fails` beside them."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "icacls"
    program.write_text(
        f'#!/bin/sh\ncd {folder}\nprintf "%s\\n" "$@" > said\n'
        "test ! -e fails || { echo No mapping; exit 1; }\n",
        encoding="ascii",
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(sys, "platform", "win32")
    return folder


def test_windows_keeps_a_secret_by_the_files_access_list(
    icacls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USERDOMAIN", "DESKTOP")
    monkeypatch.setenv("USERNAME", "ada")
    address.write_private(tmp_path / "secret", "x")
    assert (tmp_path / "secret").read_text(encoding="utf-8") == "x"
    new = str(tmp_path / "secret.new")
    said = (icacls / "said").read_text(encoding="utf-8").splitlines()
    assert said == [new, "/inheritance:r", "/grant:r", "DESKTOP\\ada:F"]


def test_where_windows_cannot_keep_it_nothing_secret_is_written(
    icacls: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("USERDOMAIN", "USERNAME"):  # a service may have neither
        monkeypatch.delenv(name, raising=False)
    (icacls / "fails").touch()
    with pytest.raises(OSError, match="No mapping"):
        address.write_private(tmp_path / "secret", "x")
    assert not (tmp_path / "secret").exists()
    assert (tmp_path / "secret.new").read_bytes() == b""


def test_a_record_that_another_command_reads_on_windows_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address.record(tmp_path, Address("/x"))

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "used by another process")

    monkeypatch.setattr(Path, "replace", refuse)
    address.record(tmp_path, Address("/y"))
    assert address.recorded(tmp_path) == Address("/x")
    monkeypatch.setattr(Path, "unlink", refuse)
    address.forget(tmp_path)
