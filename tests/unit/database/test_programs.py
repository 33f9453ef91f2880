"""Which of the package's programs are run, also on the systems that these tests do not run on."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tterec.database import programs
from tterec.database.cluster import Cluster


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """What tterec takes for Windows; what it imports was imported before."""
    programs.versions()
    monkeypatch.delenv(programs.VERSION_VARIABLE, raising=False)
    monkeypatch.setattr(sys, "platform", "win32")


def test_windows_gets_the_postgres_that_starts_there(windows: None, tmp_path: Path) -> None:
    assert programs.wanted_version() == min(programs.versions())
    oldest = programs.versions()[min(programs.versions())]
    for name in ("initdb", "pg_ctl"):
        assert Cluster(tmp_path).program(name) == oldest / f"{name}.exe"


def test_windows_lets_the_environment_choose(
    windows: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = max(programs.versions())
    monkeypatch.setenv(programs.VERSION_VARIABLE, str(target))
    assert programs.wanted_version() == target


def test_other_systems_get_the_newest(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(programs.VERSION_VARIABLE, raising=False)
    assert programs.wanted_version() == max(programs.versions())
    assert Cluster(tmp_path).program("initdb").is_file()
