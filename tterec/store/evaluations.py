"""Evaluations, kept with the generation whose settings they judged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tterec import errors
from tterec.database.connection import Connection


def keep(connection: Connection, generation: int, split: str, report: Mapping[str, Any]) -> None:
    """Keep a report, JSON without NaN, as the generation's latest of its split.

    It is metrics -> 'evaluation' -> split in the registry. Raises UnknownGeneration.
    """
    updated = connection.execute(
        "UPDATE tterec.models SET metrics = metrics || jsonb_build_object('evaluation',"
        " coalesce(metrics -> 'evaluation', '{}') || jsonb_build_object(%s::text, %s::jsonb))"
        " WHERE generation = %s",
        (split, json.dumps(report, allow_nan=False), generation),
    )
    if updated.rowcount != 1:
        raise errors.UnknownGeneration(
            f"there is no generation {generation}; see: tterec models list"
        )
