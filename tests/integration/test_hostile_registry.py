"""What the registry holds may be damaged or hostile: one clear line, and nothing is executed."""

from __future__ import annotations

import copy
import json
import pickle
import random
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from tests.conftest import create_database, url_of
from tests.integration.generations import random_ranker
from tests.integration.test_train import CONFIG, SHOP
from tterec import Recommender, errors, fine_tuning, pipeline, updating, working
from tterec.database.connection import Database
from tterec.store import evidence_table, generations
from tterec.towers import Towers

DROPPED = Path("executed")


class Executed:
    """Unpickled, it leaves a file."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return Path.touch, (DROPPED,)  # type: ignore[return-value]


def header(described: object, rest: bytes = b"") -> bytes:
    text = json.dumps(described).encode()
    return struct.pack("<Q", len(text)) + text + rest


def changed(data: bytes, name: str, change: Callable[[Any], Any]) -> bytes:
    tensors = load_tensors(data)
    tensors[name] = np.ascontiguousarray(change(tensors[name]))
    return save_tensors(tensors)


def without(data: bytes, name: str) -> bytes:
    return save_tensors({key: value for key, value in load_tensors(data).items() if key != name})


WEIGHTS: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda _: b"",
    "half": lambda data: data[: len(data) // 2],
    "cut": lambda data: data[:-1],
    "longer": lambda data: data + b"x",
    "random": lambda data: random.Random(0).randbytes(len(data)),
    "pickle": lambda _: pickle.dumps(Executed()),
    "zip": lambda _: b"PK\x03\x04" + pickle.dumps(Executed()),
    "huge header": lambda data: struct.pack("<Q", 2**63) + data[8:],
    "header beyond the end": lambda data: struct.pack("<Q", len(data)) + data[8:],
    "no JSON": lambda data: struct.pack("<Q", 8) + b"{{{{{{{{" + data[8:],
    "deep JSON": lambda _: struct.pack("<Q", 200_000) + b"[" * 200_000,
    "a list": lambda _: header([]),
    "no tensor": lambda _: header({}),
    "unknown dtype": lambda _: header(
        {"items": {"dtype": "X9", "shape": [1], "data_offsets": [0, 8]}}
    ),
    "bfloat": lambda _: header(
        {"items": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}}, b"ab"
    ),
    "negative shape": lambda _: header(
        {"items": {"dtype": "I64", "shape": [-1], "data_offsets": [0, 8]}}, b"12345678"
    ),
    "huge shape": lambda _: header(
        {"items": {"dtype": "I64", "shape": [2**62], "data_offsets": [0, 8]}}, b"12345678"
    ),
    "missing tensor": lambda data: without(data, "history_map"),
    "missing ids": lambda data: without(data, "items"),
    "another tensor": lambda data: save_tensors(
        load_tensors(data) | {"other": np.zeros(3, dtype=np.float32)}
    ),
    "wrong shape": lambda data: changed(data, "item_base", lambda a: a[:-1]),
    "wrong dimensions": lambda data: changed(data, "history_map", lambda a: a.reshape(-1)),
    "wrong dtype": lambda data: changed(data, "item_base", lambda a: a.astype(np.int32)),
    "doubles": lambda data: changed(data, "item_base", lambda a: a.astype(np.float64)),
    "texts for ids": lambda data: changed(data, "items", lambda a: a.astype(np.float32)),
    "ids twice": lambda data: changed(data, "items", lambda a: a * 0),
    "NaN": lambda data: changed(data, "user_base", lambda a: a * np.float32(np.nan)),
    "infinite": lambda data: changed(data, "item_ids", lambda a: a + np.float32(np.inf)),
}
NONSENSE: list[Any] = [
    *(None, True, -1, 0, 2**70, 1.5, 1e308, "", "x", "__import__('os')", [], {}, [None], [[]]),
    *({"a": 1}, ["x"] * 3, [1e308] * 2, [0], "text", "number"),
]


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every part of a JSON value, of long lists to the first part only."""
    yield path
    if isinstance(value, dict):
        for key, part in value.items():
            yield from paths(part, (*path, key))
    elif isinstance(value, list):
        for number, part in enumerate(value[:2]):
            yield from paths(part, (*path, number))


def with_part(value: Any, path: tuple[Any, ...], part: Any) -> Any:
    if not path:
        return part
    value = copy.deepcopy(value)
    inner = value
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = part
    return value


@pytest.fixture(scope="module")
def shop(server: str, template: str) -> Database:
    database = Database(url_of(server, create_database(server, template)))
    with database.connect() as connection:
        connection.execute(SHOP)
    pipeline.train(database, CONFIG)
    with database.connect() as connection:
        # Training keeps a second stage only where it does better on validation.
        ranker = random_ranker(np.arange(1, 61), candidates=30)
        evidence_table.create(connection, 1, ranker)
        described = json.dumps(generations._ranking(ranker))
        connection.execute("UPDATE tterec.models SET ranker = %s", (described,))
    return database


class Registry:
    """The live generation's row; `tried` sets a column, and puts it back."""

    def __init__(self, database: Database) -> None:
        self.database = database
        with database.connect() as connection:
            row = connection.execute(
                "SELECT weights, features, config, sources, ranker FROM tterec.models"
            ).fetchone()
        assert row is not None
        names = ("weights", "features", "config", "sources", "ranker")
        self.was: dict[str, Any] = dict(zip(names, row, strict=True))

    def set(self, column: str, value: Any) -> None:
        stored = value if column == "weights" else json.dumps(value)
        with self.database.connect() as connection:
            connection.execute(f"UPDATE tterec.models SET {column} = %s".encode(), (stored,))
            # Something to be embedded anew.
            connection.execute("UPDATE tterec.books SET title = title || '.' WHERE book_id = 1")


@pytest.fixture
def registry(shop: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Registry]:
    monkeypatch.chdir(tmp_path)
    found = Registry(shop)
    yield found
    for column, value in found.was.items():
        found.set(column, value)
    assert not (tmp_path / DROPPED).exists()


def attempts(database: Database) -> dict[str, Callable[[], object]]:
    """The verbs that read the towers."""
    return {
        "load_towers": lambda: pipeline.load_towers(database),
        "update": lambda: updating.update(database),
        "worker": lambda: working.work(database, once=True),
        "fine_tune": lambda: fine_tuning.fine_tune(database, epochs=1),
    }


def said(attempt: Callable[[], object]) -> str | None:
    """The message of tterec's error; None if there was none. Any other error is raised."""
    try:
        attempt()
    except errors.TterecError as error:
        message = str(error)
    else:
        return None
    assert len(message.splitlines()) == 1
    return message


def recommended(database: Database) -> None:
    """Lists of every kind, by Python and by SQL."""
    with Recommender(database) as recommender:
        recommender.recommend(1)
        dict(recommender.recommend_many([1, 2]))
        recommender.explain(1, "0000000004")
    for call in ("recommend(1)", "explain(1, '0000000004')", "score(1, '0000000004')"):
        with database.connect() as connection:
            connection.execute(f"SELECT * FROM tterec.{call}".encode())


@pytest.mark.parametrize("damage", WEIGHTS)
def test_hostile_weights_are_refused_in_one_line(registry: Registry, damage: str) -> None:
    registry.set("weights", WEIGHTS[damage](registry.was["weights"]))
    for verb, attempt in attempts(registry.database).items():
        message = said(attempt)
        assert message is not None, verb
        assert "tterec train" in message, verb
    with Recommender(registry.database) as recommender:  # needs no towers
        assert len(recommender.recommend(1)) == 10
        assert len(recommender.recommend_for_profile({"age": 30})) == 10


def sampled(value: Any, count: int) -> list[tuple[tuple[Any, ...], Any]]:
    """Some parts of a JSON value, each with the nonsense that is to stand there."""
    possible = [(path, part) for path in paths(value) for part in NONSENSE]
    return random.Random(0).sample(possible, count)


def test_hostile_features_are_refused_in_one_line(registry: Registry) -> None:
    features, weights = registry.was["features"], registry.was["weights"]
    refused = 0
    for path in paths(features):
        for part in NONSENSE:
            hostile = with_part(features, path, part)
            refused += said(lambda: Towers.load(weights, hostile, CONFIG)) is not None  # noqa: B023
    assert refused > 500
    for path, part in sampled(features, 12):
        registry.set("features", with_part(features, path, part))
        said(lambda: updating.update(registry.database))


@pytest.mark.parametrize("column", ["config", "sources", "ranker"])
def test_hostile_settings_are_refused_in_one_line(registry: Registry, column: str) -> None:
    was = registry.was[column]
    for path, part in [*sampled(was, 20), *(((), part) for part in NONSENSE[:12])]:
        registry.set(column, with_part(was, path, part))
        if column == "ranker":
            said(lambda: recommended(registry.database))
        else:
            said(lambda: pipeline.load_towers(registry.database))
            said(lambda: updating.update(registry.database))


@pytest.mark.parametrize(
    "damage",
    [
        "leads = ARRAY[NULL, -1, 9223372036854775807]::bigint[]",
        "leads = '{{1,2},{3,4}}'",
        "traits = ARRAY[NULL]::bigint[]",
        "traits = ARRAY[-1, 0]::bigint[]",
        "traits = ARRAY[9223372036854775807]",
        "place = -5",
        "place = 0",
        "place = 2147483647",
        "place = NULL",
        "place = 1",
    ],
)
def test_hostile_evidence_is_refused_in_one_line_or_passed_over(
    registry: Registry, damage: str
) -> None:
    database = registry.database
    with database.connect() as connection:
        connection.execute(
            f"CREATE TABLE was AS TABLE tterec.item_evidence_1;"
            f" UPDATE tterec.item_evidence_1 SET {damage}".encode()
        )
    try:
        said(lambda: recommended(database))
    finally:
        with database.connect() as connection:
            connection.execute(
                "TRUNCATE tterec.item_evidence_1; INSERT INTO tterec.item_evidence_1 TABLE was;"
                " DROP TABLE was"
            )


@pytest.mark.parametrize(
    "damage",
    [
        "history_weights = '{}'",
        "history_weights = NULL",
        "history_weights = array_fill('NaN'::real, ARRAY[12])",
        "default_profile = '{1}'",
        "default_profile = NULL",
        "default_profile = array_fill('Infinity'::real, ARRAY[8])",
        "max_history = -1",
        "dim = 9",
        "ef_search = 0",
        "ef_search = 2147483647",
        "normalised = NULL",
    ],
)
def test_a_hostile_row_of_the_registry_is_refused_in_one_line(
    registry: Registry, damage: str
) -> None:
    database = registry.database
    with database.connect() as connection:
        connection.execute("CREATE TABLE was AS TABLE tterec.models")
        connection.execute(f"UPDATE tterec.models SET {damage}".encode())
    try:
        said(lambda: recommended(database))
        said(lambda: updating.update(database))
    finally:
        name = damage.split(maxsplit=1)[0]
        with database.connect() as connection:
            connection.execute(
                f"UPDATE tterec.models SET {name} = (SELECT {name} FROM was);"
                " DROP TABLE was".encode()
            )
