"""The record of where the embedded server listens."""

from __future__ import annotations

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
