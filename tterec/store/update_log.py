"""When the live generation was last compared with all of its sources, by update or worker."""

from __future__ import annotations

import json
from dataclasses import dataclass

from tterec.database.connection import Connection

_KEY = "last_update"


@dataclass(frozen=True)
class LastUpdate:
    """The generation that was brought up to date, when (ISO 8601), and how long that took."""

    generation: int
    at: str
    seconds: float


def keep(connection: Connection, generation: int, seconds: float) -> None:
    """Note an update that has just ended."""
    connection.execute(
        "INSERT INTO tterec.schema_state (key, value) VALUES (%s, jsonb_build_object("
        " 'generation', %s::int, 'at', to_char(clock_timestamp() AT TIME ZONE 'UTC',"
        " 'YYYY-MM-DD\"T\"HH24:MI:SS+00:00'), 'seconds', %s::float8)::text)"
        " ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        (_KEY, generation, round(seconds, 3)),
    )


def last(connection: Connection) -> LastUpdate | None:
    """The last update that ended; None before the first."""
    row = connection.execute(
        "SELECT value FROM tterec.schema_state WHERE key = %s", (_KEY,)
    ).fetchone()
    return None if row is None else LastUpdate(**json.loads(row[0]))
