"""A list for somebody who is in no table: by features alone."""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tterec import assemble, encoding, errors
from tterec.database.connection import Connection
from tterec.records import Kind, ProfileColumn, Recommendation
from tterec.retrieval import pgvector, profiles
from tterec.retrieval.choice import Indexes
from tterec.retrieval.live_models import LiveModel
from tterec.retrieval.pgvector import NO_ITEMS, Among


def features(connection: Connection) -> dict[str, Kind] | None:
    """The features that the live generation's user tower knows; None where none is live."""
    model = pgvector.live_model(connection)
    if model is None:
        return None
    return {column.name: column.kind for column in profiles.columns(connection, model)}


def recommend(
    connection: Connection,
    values: Mapping[str, Any],
    k: int,
    *,
    indexes: Indexes,
    among: Among | None = None,
) -> list[Recommendation]:
    """The k best books for these features; popular ones where all of them are unknown."""
    model = pgvector.live_model(connection)
    vector = None if model is None else profile_vector(connection, model, values)
    if model is None or vector is None:
        return pgvector.popular(connection, model, k, NO_ITEMS, among)
    index = indexes.of(connection, model, among)
    return assemble.ranked(index.candidates(vector, k, NO_ITEMS), vector, k, "profile")


def profile_vector(
    connection: Connection, model: LiveModel, values: Mapping[str, Any]
) -> NDArray[np.float64] | None:
    """The vector (d,) of a user with these features and no history, as the user tower has it.

    None where no value is known. Raises InvalidArgument for a feature that the tower does not
    know, or a value of another type.
    """
    columns = profiles.columns(connection, model)
    known = encoding.known_values({column.name: column.kind for column in columns}, values)
    if not known:
        return None
    vector = model.default_profile.astype(np.float64)
    for column in columns:
        if column.weights is not None:
            vector = vector + _numbers(column, known.get(column.name)) @ column.weights
            continue
        given = known.get(column.name, ())
        texts = encoding.normalised([given] if isinstance(given, str) else given)
        values_keys = [encoding.token_key(text) for text in texts]
        bucket_keys = [str(number) for number in encoding.word_buckets(texts, column.buckets)]
        for keys in (values_keys, bucket_keys):
            found = profiles.tokens(connection, model, column.name, keys).astype(np.float64)
            vector = vector + found.sum(axis=0) / math.sqrt(max(len(found), 1))
    norm = np.sqrt(np.sum(vector * vector))
    if not norm:
        return None
    return vector / norm if model.normalised else vector


def _numbers(column: ProfileColumn, value: Any) -> NDArray[np.float64]:
    """A column's numbers (w + 1,) as its weights take them; `value` None: missing."""
    assert column.mean is not None
    assert column.scale is not None
    width = len(column.mean)
    if column.kind != "vector":
        row = np.array([[math.nan if value is None else value]], dtype=np.float64)
    elif value is None:
        row = np.full((1, width), np.nan)
    else:
        if len(value) != width:
            raise errors.InvalidArgument(
                f"{column.name} has {len(value)} numbers, training saw {width}; pass {width} "
                "numbers, or None"
            )
        with np.errstate(over="ignore"):
            row = np.array([value], dtype=np.float64).astype(np.float32)
    numbers = encoding.standardised(encoding.finite(row), column.mean, column.scale)
    plain: NDArray[np.float64] = numbers[0].astype(np.float64)
    return plain


def parsed(kinds: Mapping[str, Kind], pairs: Sequence[str]) -> dict[str, Any]:
    """Values as a command line has them, NAME=VALUE each, by the features' kinds.

    Lists are separated by commas. An empty value is unknown. Raises InvalidArgument.
    """
    values: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise errors.InvalidArgument(
                f"--profile {pair} is not NAME=VALUE; write, say, --profile age=34"
            )
        if name in values:
            raise errors.InvalidArgument(f"--profile names {name} twice; leave one out")
        if name not in kinds:
            values[name] = text  # refused, by name, where the profile is embedded
        else:
            values[name] = _parsed(name, kinds[name], text) if text.strip() else None
    encoding.known_values(kinds, values)
    return values


_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
_WANTED: dict[Kind, str] = {
    "number": "a number",
    "boolean": "true or false",
    "date": "a date (2024-12-31)",
    "vector": "numbers, separated by commas",
}


def _parsed(name: str, kind: Kind, text: str) -> Any:
    try:
        if kind == "number":
            return _number(text)
        if kind == "boolean":
            return _BOOLEANS[text.strip().casefold()]
        if kind == "date":
            return datetime.date.fromisoformat(text.strip())
        if kind == "vector":
            return [_number(part) for part in text.split(",")]
    except (ValueError, KeyError):
        raise errors.InvalidArgument(
            f"{name}={text} is not {_WANTED[kind]}; write {_WANTED[kind]}, or leave it out"
        ) from None
    return text if kind == "text" else [part.strip() for part in text.split(",")]


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number
