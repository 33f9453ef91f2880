"""CSV files into users, books and ratings: one transaction, every record accounted for."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from tterec import errors
from tterec.database.connection import Connection, Database
from tterec.database.schema import require_current
from tterec.records import Progress, ProgressCallback, ignore
from tterec.store import load_tables as tables
from tterec.store import locks
from tterec.store.csv_lines import InputFile, open_input
from tterec.store.csv_records import Records
from tterec.store.dialects import FileKind
from tterec.store.load_rows import Unusable, copy_text, row_maker
from tterec.store.load_summary import FileSummary, LoadSummary
from tterec.store.stages import stage

if TYPE_CHECKING:
    import pandas as pd

LOCK_TIMEOUT = "30s"
"""How long a load waits for an app's lock on a row."""

_COPY_CHARACTERS = 2**18
_SHOWN = 100  # characters of a record in a message
_NAMED = 20  # columns of no use, in a message


class _Refused(Exception):
    """A strict load met a record that it would have to mend or reject."""

    def __init__(self, line: int, what: str) -> None:
        self.line, self.what = line, what


class _Ledger:
    """Counts what was mended and rejected, and keeps the rejected records until they are stored."""

    def __init__(self, file: str, rejected_rows: IO[str], strict: bool) -> None:
        self.repairs: Counter[str] = Counter()
        self.rejected: Counter[str] = Counter()
        self._file, self._rows, self.strict = file, rejected_rows, strict
        self._line = 0
        self._repairs_of_line: list[str] = []

    def repair(self, line: int, what: str) -> None:
        """Count a mended value."""
        if self.strict:
            raise _Refused(line, what)
        if line != self._line:
            self._line, self._repairs_of_line = line, []
        self._repairs_of_line.append(what)
        self.repairs[what] += 1

    def reject(self, line: int, reason: str, raw: str) -> None:
        """Count a rejected record and keep its text; values mended in it do not count."""
        if self.strict:
            raise _Refused(line, reason)
        if line == self._line:
            self.repairs.subtract(self._repairs_of_line)
        self.rejected[reason] += 1
        self._rows.write(f"{copy_text(self._file)}\t{line}\t{reason}\t{copy_text(raw)}\n")


class _Source:
    """One file of a load, open, its header read."""

    def __init__(
        self, kind: FileKind, file: InputFile, rejected_rows: IO[str], strict: bool, zero: bool
    ) -> None:
        self.kind, self.file = kind, file
        self.ledger = _Ledger(file.name, rejected_rows, strict)
        self.records = Records(file, kind, self.ledger)
        self.refused: tuple[int, str] | None = None
        self._row = row_maker(kind, self.records.header, self.ledger, zero_is_a_rating=zero)

    def blocks(self) -> Iterator[str]:
        """The rows of all usable records, some thousands at a time; up to the refused one."""
        rows: list[str] = []
        size = 0
        try:
            for line, fields in self.records:
                try:
                    row = self._row(line, fields)
                except Unusable as unusable:
                    self.ledger.reject(line, str(unusable), self.records.raw())
                    continue
                rows.append(row)
                size += len(row)
                if size > _COPY_CHARACTERS:
                    yield "".join(rows)
                    rows.clear()
                    size = 0
        except _Refused as refusal:
            raw = "".join(c if c.isprintable() else " " for c in self.records.raw()[:_SHOWN])
            self.refused = (refusal.line, f"{refusal.what}: {raw}")
        yield "".join(rows)


def load(
    database: Database,
    *,
    users: Path | None = None,
    books: Path | None = None,
    ratings: Path | None = None,
    strict: bool = False,
    zero_is_a_rating: bool = False,
    progress: ProgressCallback = ignore,
) -> LoadSummary:
    """Load Book-Crossing files, plain or gzip, in one transaction: all of it or nothing.

    What can be kept is kept, mended where necessary; what cannot goes to tterec.rejected_rows.
    With `strict`, the first record that would be mended or rejected, or whose book or user is
    unknown, ends the load with LoadError. A rating of 0 means unrated unless `zero_is_a_rating`.
    Memory does not depend on the files' size; progress is in bytes of each file.

    Raises InvalidArgument without any file, LoadError for a file that cannot be read or is not
    of its kind, SchemaOutdated, and Busy where another load is running.
    """
    paths: list[tuple[FileKind, Path | None]] = [
        ("users", users),
        ("books", books),
        ("ratings", ratings),
    ]
    given = [(kind, path) for kind, path in paths if path is not None]
    if not given:
        raise errors.InvalidArgument("no file was given; name one with --users, --books, --ratings")
    with ExitStack() as stack:
        rejected_rows = stack.enter_context(
            tempfile.SpooledTemporaryFile(2**20, "w+", encoding="utf-8", newline="\n")
        )
        sources = []
        for kind, path in given:
            file = stack.enter_context(open_input(path))
            sources.append(_Source(kind, file, rejected_rows, strict, zero_is_a_rating))
        for source in sources:
            if source.records.header.ignored:
                progress(Progress(source.file.name, message=_ignoring(source)))
        connection = stack.enter_context(database.connect(patient=True))
        require_current(connection)
        _begin(connection)
        return _load(connection, sources, rejected_rows, progress)


def _ignoring(source: _Source) -> str:
    names = source.records.header.ignored
    shown = ", ".join(names[:_NAMED]) + (
        f" and {len(names) - _NAMED:,} more" * (len(names) > _NAMED)
    )
    return f"{source.file.name}: ignoring {''.join(c if c.isprintable() else '?' for c in shown)}"


def _begin(connection: Connection) -> None:
    # 64 MB hold the hash of a million books or ratings; the defaults would spill to disk.
    for setting, value in (
        ("lock_timeout", LOCK_TIMEOUT),
        ("work_mem", "64MB"),
        ("temp_buffers", "64MB"),
        ("client_encoding", "UTF8"),
    ):
        connection.execute("SELECT set_config(%s, %s, true)", (setting, value))
    locks.hold_load(connection)


def _load(
    connection: Connection,
    sources: list[_Source],
    rejected_rows: IO[str],
    progress: ProgressCallback,
) -> LoadSummary:
    files, stubs, users_created = [], 0, 0
    repairs: Counter[str] = Counter()
    rejected: Counter[str] = Counter()
    target = tables.Target(connection)
    for source in sources:
        kind, ledger = source.kind, source.ledger
        with stage(connection, f"read {kind}", progress):
            staged = _stage(connection, source, progress)
        with stage(connection, f"store {kind}", progress):
            merged = tables.fold(connection, kind)
            if kind == "ratings":
                stubs, users_created = target.add_stubs(), target.add_users()
                new, changed = target.merge_ratings()
            else:
                new, changed = target.merge_rows(kind)
        repairs += ledger.repairs
        rejected += ledger.rejected
        files.append(
            FileSummary(
                file=source.file.name,
                kind=kind,
                records=source.records.count,
                accepted=staged - merged,
                rejected=ledger.rejected.total(),
                merged=merged,
                new=new,
                changed=changed,
            )
        )
    with stage(connection, "finish", progress):
        if rejected:
            _keep_rejected(connection, rejected_rows)
        tables.advance_user_ids(connection)
        target.describe()
    return LoadSummary(tuple(files), dict(repairs), dict(rejected), stubs, users_created)


def _stage(connection: Connection, source: _Source, progress: ProgressCallback) -> int:
    """Copy a file's usable records into its temporary table. Returns their number."""
    file, kind = source.file, source.kind
    tables.create_stage(connection, kind)
    with connection.cursor() as cursor:
        with cursor.copy(f"COPY {tables.stage(kind)} FROM STDIN".encode()) as copy:
            for block in source.blocks():
                copy.write(block)
                progress(Progress(file.name, file.done, file.total))
        staged = cursor.rowcount
    refused = source.refused
    if source.ledger.strict and kind == "ratings":
        # The rows that were staged stand before the refused one.
        refused = tables.first_unknown(connection) or refused
    if refused is not None:
        line, what = refused
        raise errors.LoadError(
            f"{file.name}, line {line}: {what}; nothing was loaded, "
            "mend the file or load it without --strict"
        )
    return staged


def _keep_rejected(connection: Connection, rows: IO[str]) -> None:
    tables.create_rejected_stage(connection)
    rows.seek(0)
    with connection.cursor().copy("COPY pg_temp.load_rejected FROM STDIN") as copy:
        while block := rows.read(_COPY_CHARACTERS):
            copy.write(block)
    tables.keep_rejected(connection)


def load_frames(
    database: Database,
    users: pd.DataFrame | None = None,
    books: pd.DataFrame | None = None,
    ratings: pd.DataFrame | None = None,
    **options: Any,
) -> LoadSummary:
    """Load data frames as `load` loads files with the same columns; takes its other options.

    Rejected rows name the files users.csv, books.csv and ratings.csv, where line 2 is row 0.
    """
    frames = {"users": users, "books": books, "ratings": ratings}
    with tempfile.TemporaryDirectory(prefix="tterec-") as folder:
        paths: dict[str, Any] = {}
        for kind, frame in frames.items():
            if frame is not None:
                paths[kind] = Path(folder) / f"{kind}.csv"
                frame.to_csv(paths[kind], index=False)
        return load(database, **paths, **options)
