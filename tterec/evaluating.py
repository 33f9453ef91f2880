"""The verb `evaluate`: reads the sources, has a model judged, and keeps the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from tterec.config import TrainingConfig
from tterec.database import schema
from tterec.database.connection import Connection, Database
from tterec.errors import TterecError
from tterec.judging import Protocol, Report, judge
from tterec.records import ProgressCallback, ignore
from tterec.store import evaluations, reading, registry, sources
from tterec.store.sources import Queries
from tterec.store.stages import stage

# Settings that make the same model, sooner or later.
_HARMLESS = {"threads", "device"}
_ABSENT = object()


def live_settings(database: Database) -> TrainingConfig:
    """The settings of the live generation; the defaults where none is live."""
    with database.connect() as connection:
        schema.require_current(connection)
        live = registry.live(connection)
        return TrainingConfig() if live is None else registry.settings(connection, live)


def evaluate(
    database: Database,
    protocol: Protocol | None = None,
    config: TrainingConfig | None = None,
    progress: ProgressCallback = ignore,
) -> Report:
    """Hold interactions out, fit on the rest by `config`, rank for the users, and judge.

    Reads the sources, builds no generation and touches no vectors. The report is stored with the
    live generation if that was trained with these very settings from these queries. Default
    settings: those of the live generation. Raises SourceError, TrainingError, EvaluationError.
    """
    protocol = protocol or Protocol()
    config = config or live_settings(database)
    database = database.of("evaluate")
    with database.connect(autocommit=True, patient=True) as connection:
        schema.require_current(connection)
        queries = sources.chosen(connection, {})
        live = registry.live(connection)
        with stage(connection, "read sources", progress):
            data = reading.read_sources(connection, queries, progress)
    report = judge(data.interactions, data.users, data.items, config, protocol, progress=progress)
    return _store(database, report, config, queries, live)


def _store(
    database: Database,
    report: Report,
    config: TrainingConfig,
    queries: Queries,
    live: int | None,
) -> Report:
    """Keep the report with the generation that was live, or say why not."""
    try:
        with database.connect(autocommit=True, patient=True) as connection:
            reason = _why_not(connection, config, queries, live)
            if reason is None and live is not None:
                stored = replace(report, generation=live)
                evaluations.keep(connection, live, report.split, asdict(stored))
                return stored
    except TterecError as error:  # the report itself is not lost for that
        reason = str(error)
    return replace(report, not_stored=reason)


def _why_not(
    connection: Connection, config: TrainingConfig, queries: Queries, live: int | None
) -> str | None:
    """Why the figures are not those of the live generation; None if they are."""
    if live is None:
        return "no generation is live"
    shown = registry.show(connection, live)
    if "fine_tuned_from" in shown["metrics"]:
        return f"generation {live}, which is live, was fine-tuned, and this was trained anew"
    theirs: Mapping[str, Any] = shown["config"]
    mine = asdict(config)
    names = sorted(mine.keys() | theirs.keys())
    other = [
        name
        for name in names
        if name not in _HARMLESS and mine.get(name, _ABSENT) != theirs.get(name, _ABSENT)
    ]
    if other:
        return f"generation {live}, which is live, was trained with another {', '.join(other)}"
    if registry.queries(connection, live) != queries:
        return f"generation {live}, which is live, was trained from other queries"
    return None
