"""Rows as text in columns."""

from __future__ import annotations


def in_columns(rows: list[tuple[str, ...]]) -> str:
    """Rows in columns, as wide as need be; numbers to the right, as are their heads."""
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    right = [all(value[:1].isdigit() or value == "-" for value in column[1:]) for column in columns]
    return "\n".join(
        "  ".join(
            value.rjust(width) if to_right else value.ljust(width)
            for value, width, to_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in rows
    )
