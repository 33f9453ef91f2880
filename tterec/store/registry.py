"""What the registry knows of the generations, read only."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from psycopg.rows import dict_row

from tterec import errors
from tterec.config import TrainingConfig
from tterec.database.connection import Connection
from tterec.records import GenerationInfo
from tterec.store import sources
from tterec.store.sources import Queries

_INFO = (
    "SELECT m.generation, m.status, a.generation IS NOT NULL, m.created_at, m.objective, m.dim,"
    " m.counts, m.metrics, m.forgotten_users FROM tterec.models m"
    " LEFT JOIN tterec.active_model a ON a.generation = m.generation"
)


@dataclass(frozen=True)
class StoredTowers:
    """What embeds users and items again: safetensors bytes, features, and the settings."""

    weights: bytes
    features: dict[str, Any]
    config: TrainingConfig


def list_generations(connection: Connection) -> list[GenerationInfo]:
    """All generations, the oldest first."""
    rows = connection.execute(f"{_INFO} ORDER BY m.generation".encode()).fetchall()
    return [_info(row) for row in rows]


def info(connection: Connection, generation: int) -> GenerationInfo:
    """One generation in short. Raises UnknownGeneration."""
    row = connection.execute(f"{_INFO} WHERE m.generation = %s".encode(), (generation,)).fetchone()
    if row is None:
        raise _unknown(generation)
    return _info(row)


def _info(row: tuple[Any, ...]) -> GenerationInfo:
    generation, status, active, created_at, *rest = row
    return GenerationInfo(
        generation, status, active, created_at.isoformat(timespec="seconds"), *rest
    )


def show(connection: Connection, generation: int) -> dict[str, Any]:
    """Everything about a generation but its vectors and weights; JSON-able. UnknownGeneration."""
    with connection.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(
            "SELECT m.generation, status, a.generation IS NOT NULL AS active,"
            " m.generation IN (SELECT previous_generation FROM tterec.active_model) AS previous,"
            " created_at,"
            " finished_at, objective, dim, normalised, max_history, history_weights, ef_search,"
            " ranker, seed, watermark, forgotten_users, counts, metrics, versions, config, sources,"
            " octet_length(weights) AS weights_bytes"
            " FROM tterec.models m LEFT JOIN tterec.active_model a ON a.generation = m.generation"
            " WHERE m.generation = %s",
            (generation,),
        ).fetchone()
    if row is None:
        raise _unknown(generation)
    for name in ("created_at", "finished_at", "watermark"):
        row[name] = row[name] and row[name].isoformat(timespec="seconds")
    return row


def live(connection: Connection) -> int | None:
    """The number of the live generation."""
    row = connection.execute("SELECT generation FROM tterec.active_model").fetchone()
    return None if row is None else int(row[0])


@dataclass(frozen=True)
class Active:
    """The live generation, since when it is (ISO 8601), and the one that was live before."""

    generation: int
    promoted_at: str
    previous: int | None


def active(connection: Connection) -> Active | None:
    """What is live; None before the first promotion."""
    row = connection.execute(
        "SELECT generation, promoted_at, previous_generation FROM tterec.active_model"
    ).fetchone()
    return None if row is None else Active(row[0], row[1].isoformat(timespec="seconds"), row[2])


def queries(connection: Connection, generation: int) -> Queries | None:
    """The queries that the views have while this generation is live; None if it names none.

    A generation trained from the default queries is served by the defaults of this version.
    """
    described = _sources(connection, generation)
    if described.get("origin") == "default":
        return sources.default_queries()
    if not described.keys() >= set(sources.NAMES):
        return None
    return Queries(*(described[name] for name in sources.NAMES))


def last_kinds(connection: Connection) -> tuple[int, dict[str, dict[str, str]]] | None:
    """The live generation, else the newest ready one, and its sources' column kinds."""
    row = connection.execute(
        "SELECT m.generation, m.sources FROM tterec.models m"
        " LEFT JOIN tterec.active_model a ON a.generation = m.generation"
        " WHERE m.status = 'ready' ORDER BY a.generation, m.generation DESC LIMIT 1"
    ).fetchone()
    if row is None:
        return None
    return int(row[0]), _checked_sources(row[1], row[0]).get("kinds") or {}


def kinds(connection: Connection, generation: int) -> dict[str, dict[str, str]]:
    """The kinds of the columns that a generation was trained from, by query and name."""
    found: dict[str, dict[str, str]] = _sources(connection, generation).get("kinds") or {}
    return found


def ranker_width(connection: Connection, generation: int) -> int | None:
    """How many items and traits may speak for an item; None without a second stage."""
    row = connection.execute(
        "SELECT (ranker ->> 'width')::int FROM tterec.models WHERE generation = %s", (generation,)
    ).fetchone()
    return None if row is None else row[0]


def towers(connection: Connection, generation: int | None = None) -> StoredTowers:
    """The towers of a generation, by default the live one.

    Raises NoActiveModel if none is live and UnknownGeneration if there are no such towers.
    """
    if generation is None:
        generation = live(connection)
        if generation is None:
            raise errors.NoActiveModel
    row = connection.execute(
        "SELECT weights, features, config, status FROM tterec.models WHERE generation = %s",
        (generation,),
        binary=True,  # half the bytes of the text format
    ).fetchone()
    if row is None:
        raise _unknown(generation)
    weights, features, config, status = row
    if weights is None:
        raise errors.UnknownGeneration(
            f"generation {generation} is {status} and has no towers; see: tterec models list"
        )
    return StoredTowers(bytes(weights), features, _settings(config, generation))


def settings(connection: Connection, generation: int) -> TrainingConfig:
    """The settings that a generation was trained with. Raises UnknownGeneration.

    Those that its version did not know have today's defaults.
    """
    return _settings(show(connection, generation)["config"], generation)


def _settings(config: Any, generation: int) -> TrainingConfig:
    known = {field.name: field.type for field in fields(TrainingConfig)}
    accepted = {"str": (str,), "int": (int,), "float": (int, float), "bool": (bool,)}
    if not isinstance(config, dict):
        raise _damaged(generation)
    settings = {name: value for name, value in config.items() if name in known}
    for name, value in settings.items():
        kind = str(known[name])
        if not isinstance(value, accepted[kind]) or isinstance(value, bool) != (kind == "bool"):
            raise _damaged(generation)
    try:
        return TrainingConfig(**settings)
    except (errors.ConfigError, OverflowError) as error:
        raise _damaged(generation) from error


def _sources(connection: Connection, generation: int) -> dict[str, Any]:
    row = connection.execute(
        "SELECT sources FROM tterec.models WHERE generation = %s", (generation,)
    ).fetchone()
    if row is None:
        raise _unknown(generation)
    return _checked_sources(row[0], generation)


def _checked_sources(described: Any, generation: int) -> dict[str, Any]:
    """The queries, as texts, and the kinds of their columns, as texts by query and name."""
    if not isinstance(described, dict):
        raise _damaged(generation)
    texts = [described.get(name, "") for name in (*sources.NAMES, "origin")]
    kinds = described.get("kinds") or {}
    if not isinstance(kinds, dict) or not all(isinstance(of, dict) for of in kinds.values()):
        raise _damaged(generation)
    texts += [kind for of in kinds.values() for kind in of.values()]
    if not all(isinstance(text, str) for text in texts):
        raise _damaged(generation)
    return described


def _damaged(generation: int) -> errors.DatabaseError:
    return errors.DatabaseError(
        f"what tterec.models holds of generation {generation} is damaged; train again: tterec train"
    )


def _unknown(generation: int) -> errors.UnknownGeneration:
    return errors.UnknownGeneration(f"there is no generation {generation}; see: tterec models list")
