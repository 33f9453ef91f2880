"""The version of the SQL functions, by which a database is known to have others."""

from __future__ import annotations

import pytest

from tterec.database import functions, generation_functions


def test_functions_that_ask_another_number_of_leaders_are_of_another_version(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = functions.fingerprint()
    monkeypatch.setattr(generation_functions, "LEADERS", generation_functions.LEADERS + 1)
    assert functions.fingerprint() != before
