"""What a load did: every record read is accepted, rejected or merged, and the figures say so."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from tterec.store.dialects import FileKind


@dataclass(frozen=True, slots=True)
class FileSummary:
    """One file. `records` = `accepted` + `rejected` + `merged`; the header is no record.

    `merged` records were followed by a later one for the same user, book or pair of both.
    `new` and `changed` count rows of the file's table; an accepted record that says what the
    table says already is neither.
    """

    file: str
    kind: FileKind
    records: int
    accepted: int
    rejected: int
    merged: int
    new: int
    changed: int


@dataclass(frozen=True, slots=True)
class LoadSummary:
    """A whole load. `str()` of it is what `tterec load` prints.

    `repairs` counts mended values by kind, `rejected` records by reason. `stubs` are books, and
    `users_created` users, that only a rating named: rows with an id and nothing else.
    """

    files: tuple[FileSummary, ...]
    repairs: dict[str, int]
    rejected: dict[str, int]
    stubs: int
    users_created: int

    @property
    def changed(self) -> int:
        """Rows added or changed in users, books and ratings; 0 where the load was a repetition."""
        return sum(file.new + file.changed for file in self.files) + self.stubs + self.users_created

    def __str__(self) -> str:
        lines = []
        for file in self.files:
            lines += [
                f"{file.file}: {file.records:,} records = {file.accepted:,} accepted"
                f" + {file.rejected:,} rejected + {file.merged:,} merged into a later one",
                f"  {file.kind}: {file.new:,} new, {file.changed:,} changed",
            ]
        if self.stubs or self.users_created:
            lines.append(
                f"Known only from ratings: {self.stubs:,} books, {self.users_created:,} users"
            )
        lines += _table("Mended", self.repairs)
        lines += _table("Rejected (see tterec.rejected_rows)", self.rejected)
        if self.changed == 0:
            lines.append("The database had all of it: 0 changed.")
        return "\n".join(lines)


def _table(title: str, counts: dict[str, int]) -> list[str]:
    if not counts:
        return []
    width = max(len(f"{count:,}") for count in counts.values())
    ordered = Counter(counts).most_common()
    return [f"{title}:", *(f"  {count:>{width},}  {what}" for what, count in ordered)]
