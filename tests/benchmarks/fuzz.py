"""CSV files that nobody would write, loaded through the real parser into a real Postgres.

    python -m tests.benchmarks.fuzz --files 10000

Hypothesis makes each file: a header or none, records that are right among records that are not, any
encoding and line end, gzip or not, whole or cut, bytes changed at random. After each, either the
load was refused in one line and every table is as before, or every record is accounted for: the
right ones stand in the tables, as many rows came as the summary says, and loading it again
changes nothing. Takes a URL of an empty database (--database-url), or starts a server of its own.
"""

from __future__ import annotations

import argparse
import gzip
import shutil
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psycopg
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tterec import errors, pipeline
from tterec.database import system_user
from tterec.database.cluster import Cluster
from tterec.database.connection import Connection, Database
from tterec.store.dialects import FileKind
from tterec.store.load_summary import LoadSummary

HEADERS: dict[FileKind, tuple[str, ...]] = {
    "users": ("User-ID", "Location", "Age"),
    "books": ("ISBN", "Book-Title", "Book-Author", "Year-Of-Publication", "Publisher"),
    "ratings": ("User-ID", "ISBN", "Book-Rating"),
}
TABLES = ("users", "books", "ratings", "rejected_rows")
FIRST = 10**15
"""Ids from here on are those of records that are right, and no others'."""

# What has broken a loader of CSV files, of numbers or of SQL before.
VALUES = st.sampled_from(
    [
        *("", " ", "NULL", "null", "\\N", "\\.", "\\", "\\\\", '"', '""', "'", "';--", ","),
        *("=cmd()", "=HYPERLINK(1)", "+1", "-1", "@x", "%s", "%(x)s", "{}", "${jndi:x}", "\x1b[2J"),
        *("0", "00", "-0", "1e400", "1e-400", "1e5", "0x10", "1_000", "1,5", "NaN", "nan"),
        *("inf", "-Infinity", "11", "-0.0001", "10.0000001", "9999999999999999999"),
        *("9223372036854775807", "9223372036854775808", "-9223372036854775809", "1" * 5000),
        *("١٢٣", "\uff11\uff12", "²", "½", "İ", "ß", "\ufeff", "\u202e", "\u2028", "\x85", "\x1c"),
        *(
            "2024-13-45",
            "&#0;",
            "&#xD800;",
            "&amp;",
            "&notit;",
            "a\nb",
            "a\r\nb",
            "a\rb",
            "\0",
            "\t",
        ),
        *("'; DROP TABLE tterec.users; --", "$$", "$1", "x" * 3000, "\U0001f600", "e\u0301"),
    ]
) | st.text(st.characters(codec="utf-8"), max_size=8)


@dataclass(frozen=True)
class Made:
    """A file's kind and bytes, and the ids of records that must be loaded if the load succeeds.

    `untouched`: no byte was changed and nothing cut, so that it must succeed.
    """

    kind: FileKind
    data: bytes
    right: tuple[int, ...]
    untouched: bool


@st.composite
def made_files(draw: st.DrawFn) -> Made:
    """Any file."""
    kind = draw(st.sampled_from(sorted(HEADERS)))
    delimiter = draw(st.sampled_from(",,,;"))
    end = draw(st.sampled_from(["\n", "\r\n"]))
    header = list(HEADERS[kind])
    usual = draw(st.integers(0, 3)) > 0
    if not usual:
        header = draw(
            st.permutations(header)
            | st.lists(st.sampled_from(header) | VALUES, max_size=8)
            | st.just([*header, *(f"more {i}" for i in range(draw(st.integers(1, 400))))])
        )
    # A quote that opens in one record may close in another, and take what lies between.
    quotes = draw(st.booleans())
    lines, right = [delimiter.join(header)], []
    for number in range(draw(st.integers(0, 12))):
        if draw(st.booleans()) and usual:
            right.append(FIRST + number)
            lines.append(delimiter.join(_right(kind, FIRST + number)))
        else:
            lines.append(delimiter.join(draw(st.lists(VALUES, max_size=7))))
    text = end.join(lines) + draw(st.sampled_from(["", end, end * 3]))
    if not quotes:
        text = text.replace('"', "")
    if draw(st.integers(0, 9)) == 0:
        text = text.replace("\r", "").replace("\n", "\r")
        usual = False
    encoding = draw(
        st.sampled_from(["utf-8"] * 6 + ["utf-8-sig", "utf-16", "utf-16-le", "latin-1"])
    )
    data = text.encode(encoding, errors="replace")
    usual = usual and "utf-16" not in encoding
    damage = draw(st.sampled_from(["none", "none", "bytes", "cut", "gzip", "cut gzip"]))
    if damage == "bytes":
        changed = bytearray(data)
        for _ in range(draw(st.integers(1, 5))):
            at = draw(st.integers(0, len(changed)))
            changed[at : at + draw(st.integers(0, 2))] = draw(st.binary(max_size=3))
        data = bytes(changed)
    elif "gzip" in damage:
        data = gzip.compress(data, 1)
    if "cut" in damage:
        data = data[: draw(st.integers(0, len(data)))]
    whole = usual and not quotes and damage in ("none", "gzip")
    return Made(kind, data, tuple(right) if whole else (), whole)


def _right(kind: FileKind, number: int) -> tuple[str, ...]:
    return {
        "users": (str(number), "somewhere", "30"),
        "books": (str(number), "A title", "An author", "1999", "A publisher"),
        "ratings": (str(number), str(number), "7"),
    }[kind][: len(HEADERS[kind])]


class Loader:
    """Loads made files into one database, and looks at what became of it."""

    def __init__(self, database: Database, folder: Path) -> None:
        self._database, self._path = database, folder / "made.csv"
        self._connection = psycopg.connect(database.url, autocommit=True)
        self.outcomes: Counter[str] = Counter()

    def close(self) -> None:
        self._connection.close()

    def check(self, made: Made) -> None:
        """Load the file; raises AssertionError if anything is not as it should be."""
        number = self.outcomes.total()
        if number % 100 == 0:
            tables = ", ".join(f"tterec.{name}" for name in (*TABLES, "changes"))
            self._connection.execute(f"TRUNCATE {tables}".encode())
        self._path.write_bytes(made.data)
        before = contents(self._connection)
        try:
            summary = pipeline.load(self._database, **{made.kind: self._path})  # type: ignore[arg-type]
        except errors.LoadError as refusal:
            self.outcomes["refused"] += 1
            said = str(refusal)
        else:
            said = ""
        if said:
            assert not made.untouched, said
            assert len(said.splitlines()) == 1
            assert contents(self._connection) == before
            return
        self.outcomes["loaded"] += 1
        after = contents(self._connection)
        self._account(made, summary, before, after)
        if number % 10 == 0:
            again = pipeline.load(self._database, **{made.kind: self._path})  # type: ignore[arg-type]
            assert again.changed == 0
            assert contents(self._connection) == after

    def _account(
        self,
        made: Made,
        summary: LoadSummary,
        before: dict[str, tuple[int, int]],
        after: dict[str, tuple[int, int]],
    ) -> None:
        (file,) = summary.files
        grown = {name: after[name][0] - before[name][0] for name in TABLES}
        assert file.records == file.accepted + file.rejected + file.merged
        assert summary.rejected.get("", 0) == 0
        assert sum(summary.rejected.values()) == file.rejected
        assert all(count > 0 for count in summary.repairs.values())
        assert grown[made.kind] == file.new
        assert grown["rejected_rows"] <= file.rejected  # the same line may be there already
        if made.kind == "ratings":
            assert (grown["books"], grown["users"]) == (summary.stubs, summary.users_created)
        # Nothing that looks like a record is lost without a word: a record ends at a line's end.
        assert file.records <= made.data.count(b"\n") + 1 or made.data[:2] == b"\x1f\x8b"
        for number in made.right:
            keys = {"users": "user_id", "books": "isbn", "ratings": "user_id"}
            row = self._connection.execute(  # a damaged file may have brought others of this id
                f"SELECT count(*) > 0 FROM tterec.{made.kind}"
                f" WHERE {keys[made.kind]}::text = %s".encode(),
                (str(number),),
            ).fetchone()
            assert row == (True,), number


def contents(connection: Connection) -> dict[str, tuple[int, int]]:
    """Rows of each table, and a sum over their contents."""
    found = {}
    for name in TABLES:
        row = connection.execute(
            "SELECT count(*), coalesce(sum(hashtext(t::text)), 0)::bigint"
            f" FROM tterec.{name} t".encode()
        ).fetchone()
        assert row is not None
        found[name] = (int(row[0]), int(row[1]))
    return found


def fuzz(database: Database, files: int, *, seed: int | None = None) -> Counter[str]:
    """Load so many made files; how many were loaded and refused. AssertionError with the file."""
    with tempfile.TemporaryDirectory(prefix="tterec-fuzz-") as folder:
        loader = Loader(database, Path(folder))

        @settings(
            max_examples=files,
            deadline=None,
            database=None,
            derandomize=seed is not None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.explicit, Phase.generate, Phase.shrink),
        )
        @given(made_files())
        def run(made: Made) -> None:
            loader.check(made)

        try:
            run()
        finally:
            loader.close()
        return loader.outcomes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--database-url", help="an empty database; else a server is started")
    arguments = parser.parse_args()
    started = time.monotonic()
    if arguments.database_url:
        database = Database(arguments.database_url)
        pipeline.upgrade(database)
        outcomes = fuzz(database, arguments.files)
    else:
        folder = Path(tempfile.mkdtemp(prefix="tterec-fuzz-"))
        system_user.open_home(folder)
        cluster = Cluster(folder)
        cluster.create()
        with (cluster.directory / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.write("fsync = off\nfull_page_writes = off\n")
        try:
            database = Database(cluster.start().url("postgres"))
            pipeline.upgrade(database)
            outcomes = fuzz(database, arguments.files)
        finally:
            cluster.stop()
            shutil.rmtree(folder, ignore_errors=True)
    print(
        f"{outcomes.total():,} files: {outcomes['loaded']:,} loaded,"
        f" {outcomes['refused']:,} refused in one line, no fault;"
        f" {time.monotonic() - started:.0f} s"
    )


if __name__ == "__main__":
    main()
