"""The tables of characters that the SQL functions carry."""

from __future__ import annotations

from tterec.database import letters


def test_all_letters_with_case_are_looked_at() -> None:
    beyond = [chr(code) for code in range(0x20000, 0x110000)]
    assert [c for c in beyond if c.casefold() != c] == []


def test_nothing_that_would_end_a_literal_is_in_the_tables() -> None:
    found = letters.placeholders()
    assert not set("'\\]^") & set(found["@word@"] + found["@cased@"] + found["@folded@"])
    assert len(found["@cased@"]) == len(found["@folded@"])
    assert found["@unfoldings@"].count("'") == 4 * len(found["@unfolded@"])


def test_other_encodings_have_ascii_alone() -> None:
    assert all(text.isascii() for text in letters.placeholders(utf8=False).values())
