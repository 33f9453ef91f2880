"""Digests of the sources' rows, by which a change to a row is noticed."""

from __future__ import annotations

from tterec.database.connection import Connection

_MD5 = "md5((s.*)::text)"  # without the star, a column called s would stand for the row
DIGEST = f"decode({_MD5}, 'hex')"
"""SQL: the 16 bytes of a row of `s`, a source query."""
AS_UUID = f"{_MD5}::uuid"
"""SQL: the same as a uuid."""

# What decides how dates, numbers and bytes read as text: a digest must not depend on who asks.
_TEXTS = {
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "iso_8601",
    "TimeZone": "UTC",
    "extra_float_digits": "1",
    "bytea_output": "hex",
}


def fix_texts(connection: Connection) -> None:
    """Until the end of the transaction, let equal rows have equal texts."""
    for setting, value in _TEXTS.items():
        connection.execute("SELECT set_config(%s, %s, true)", (setting, value))
