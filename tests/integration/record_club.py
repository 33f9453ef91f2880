"""A generated record club, shaped unlike the bookshop: text ids, and a column of every type.

Two clans, jazz and metal. A member's records are of their clan but for one in ten, so that a
list can be judged: most of it must be of the member's own genre.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tterec.database.connection import Connection

CLANS = ("jazz", "metal")
MEMBERS, RECORDS = 120, 80

# Ids that a careless program breaks: digits that are no number, quotes, commas, other scripts,
# blanks at the edge, and nothing at all.
ODD_MEMBERS = ("123", "o'brien", 'ольга "оля"', "山田,太郎", " edge ", "", "100%_x\\")
ODD_RECORDS = ("007", "l'été", 'say "no"', "песня;1", "a,b", "-1", "%s")

SCHEMA = """
    CREATE SCHEMA club;
    CREATE TYPE club.plan AS ENUM ('free', 'paid', 'patron');
    CREATE DOMAIN club.handle AS text;
    CREATE DOMAIN club.minutes AS int CHECK (VALUE > 0);
    CREATE TABLE club.members (
        handle club.handle PRIMARY KEY, spent numeric(8, 2), age smallint, city text, about text,
        instruments text[], plan club.plan, newsletter boolean, born date, joined timestamptz,
        taste real[], voice vector(2));
    CREATE TABLE club.records (
        code varchar(40) PRIMARY KEY, title text, artist text, notes text, genres text[],
        plan club.plan, price numeric(6, 2), length club.minutes, rating_count bigint, live boolean,
        released date, added timestamp, mood real[], sound vector(3));
    CREATE TABLE club.plays (
        handle text, code text, stars smallint, at timestamptz, PRIMARY KEY (handle, code));
"""
QUERIES = {
    "interactions": "-- one to five stars\n"
    "SELECT handle AS user_id, code AS item_id, stars * 2 AS rating, at AS rated_at\n"
    "FROM club.plays;\n",
    "users": "SELECT handle AS user_id, spent, age, city, about, instruments, plan, newsletter,\n"
    "    born, joined, taste, voice\nFROM club.members\n",
    "items": "SELECT code AS item_id, title, artist, notes, genres, plan, price, length,\n"
    "    rating_count, live, released, added, mood, sound\nFROM club.records -- all of them",
}


def member(number: int) -> str:
    """The id of the member of this number, whose clan is CLANS[number % 2]."""
    if number < len(ODD_MEMBERS):
        return ODD_MEMBERS[number]
    return f"{number:08x}-0000-4000-8000-{number * 7919:012x}"


def record(number: int) -> str:
    """The id of the record of this number, whose genre is CLANS[number % 2]."""
    return ODD_RECORDS[number] if number < len(ODD_RECORDS) else f"{genre(number)}-{number}"


def genre(number: int) -> str:
    """The genre of a record, or the clan of a member."""
    return CLANS[number % 2]


def genres() -> dict[str, str]:
    """The genre of every record, by its id."""
    return {record(number): genre(number) for number in range(RECORDS)}


def plant(connection: Connection) -> None:
    """Schema, members, records and plays; every feature column has a NULL somewhere."""
    rng = np.random.default_rng(4)
    connection.execute(SCHEMA)
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO club.members VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            [
                (
                    member(n),
                    *_holes(
                        rng,
                        round(float(rng.gamma(2, 20)), 2),
                        int(rng.integers(16, 90)),
                        ("Lisboa", "Łódź", "Oslo")[n % 3],
                        f"I have {n} records and {rng.integers(9)} cats, mostly {genre(n)}",
                        [["sax", "drums"][n % 2], "piano"],
                        ("free", "paid", "patron")[n % 3],
                        n % 4 == 0,
                        f"19{50 + n % 50}-03-01",
                        f"2020-01-01 00:00:{n % 60:02}+02",
                        rng.normal(size=3).tolist(),
                        f"[{n % 2},{rng.random():.3f}]",
                    ),
                )
                for n in range(MEMBERS)
            ],
        )
        cursor.executemany(
            "INSERT INTO club.records"
            " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
            [
                (
                    record(n),
                    *_holes(
                        rng,
                        f"Record «{n}»",
                        f"Artist {n % 12}",
                        f"Pressing {n} of a night with {rng.integers(99)} people and no heating",
                        [genre(n), f"mood {n % 5}", None],
                        ("free", "paid", "patron")[n % 3],
                        round(float(rng.gamma(3, 8)), 2),
                        int(rng.integers(20, 90)),
                        int(rng.integers(1, 10**6)),
                        n % 3 == 0,
                        f"{1950 + n % 70}-06-01",
                        f"2021-02-01 10:{n % 60:02}",
                        rng.normal(size=4).tolist(),
                        f"[{n % 2},{n % 3},{rng.random():.3f}]",
                    ),
                )
                for n in range(RECORDS)
            ],
        )
        cursor.executemany(
            "INSERT INTO club.plays VALUES (%s, %s, %s, timestamptz '2024-01-01' + %s * interval"
            " '1 hour') ON CONFLICT DO NOTHING",
            [play for n in range(MEMBERS) for play in _plays(rng, n)],
        )
        # A record that was taken out of the catalogue, and a guest who is no member.
        cursor.execute("INSERT INTO club.plays VALUES (%s, 'withdrawn', 4, now())", (member(9),))
        cursor.execute("INSERT INTO club.plays VALUES ('guest', %s, 5, now())", (record(8),))


def write_queries(folder: Path, queries: Mapping[str, str] = QUERIES) -> dict[str, Path]:
    """The three queries as files in a folder, by name."""
    files = {name: folder / f"{name}.sql" for name in queries}
    for name, path in files.items():
        path.write_text(queries[name], encoding="utf-8")
    return files


def _plays(rng: np.random.Generator, n: int) -> list[tuple[str, str, int | None, int | None]]:
    """Twelve records of member n: id, record, stars (one in four has none), hours."""
    mine = rng.choice(RECORDS // 2, 12, replace=False) * 2 + n % 2
    strayed = rng.random(12) < 0.1
    found = np.where(strayed, mine ^ 1, mine)
    return [
        (
            member(n),
            record(int(album)),
            None if rng.random() < 0.25 else int(rng.integers(3, 6)),
            None if rng.random() < 0.1 else int(rng.integers(10_000)),
        )
        for album in found
    ]


def _holes(rng: np.random.Generator, *values: object) -> list[object]:
    """The values, one in eight of them NULL."""
    return [None if rng.random() < 1 / 8 else value for value in values]
