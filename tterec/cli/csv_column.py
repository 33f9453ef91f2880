"""One column of a CSV file that a person names."""

from __future__ import annotations

from pathlib import Path

from tterec.errors import InvalidArgument


def read_column(path: Path, name: str) -> list[str]:
    """The values of a column, such as user_id, which a header may also spell User-ID."""
    import csv

    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.reader(file)
            header = [title.strip().lower().replace("-", "_") for title in next(rows, [])]
            if name not in header:
                raise InvalidArgument(
                    f"{path} has no column {name}; its first line must be a header with it"
                )
            column = header.index(name)
            return [
                row[column].strip() for row in rows if len(row) > column and row[column].strip()
            ]
    except OSError as error:
        raise InvalidArgument(f"cannot read {path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidArgument(f"{path} is not a CSV file in UTF-8: {error}") from error
