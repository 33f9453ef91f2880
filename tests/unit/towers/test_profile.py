"""One user's features, as a program has them, embedded as the tables' users are."""

from __future__ import annotations

from datetime import date, datetime

import numpy as np
import pytest

from tests.unit.towers.worlds import World, planted_tastes, texts
from tterec.config import TrainingConfig
from tterec.errors import InvalidArgument
from tterec.records import Column, FeatureTable
from tterec.towers import Towers, train
from tterec.towers.features import Features
from tterec.towers.profile import profile_table

TAGS = texts([None, None])
TAGS[0] = ["crime", "sea"]
TABLE = FeatureTable(
    np.array([1, 2]),
    (
        Column("age", "number", np.array([30.0, 50.0])),
        Column("member", "boolean", np.array([1.0, 0.0])),
        Column("since", "date", np.array([0.0, 366.0])),
        Column("city", "text", texts(["Leith", None])),
        Column("tags", "text[]", TAGS),
        Column("taste", "vector", np.array([[0.5, 1.0], [np.nan, np.nan]], dtype=np.float32)),
    ),
)


def test_plain_values_encode_as_the_same_values_of_a_table() -> None:
    features = Features.fit(TABLE)
    expected = features.encode(TABLE)
    given = {
        "age": 30,
        "member": True,
        "since": date(1970, 1, 1),
        "city": "Leith",
        "tags": ["crime", "sea"],
        "taste": [0.5, 1.0],
    }
    encoded = features.encode(profile_table(features, given))
    assert np.array_equal(encoded.dense[0], expected.dense[0])
    assert np.array_equal(encoded.tokens.ids, expected.rows(np.array([0])).tokens.ids)


def test_what_is_not_named_is_unknown() -> None:
    features = Features.fit(TABLE)
    given = {"age": 50.0, "member": False, "since": datetime(1971, 1, 2, 23, 59), "city": None}
    encoded = features.encode(profile_table(features, given))
    assert np.array_equal(encoded.dense[0], features.encode(TABLE).dense[1])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"shoe_size": 43}, "no feature 'shoe_size'; it knows: age, member, since"),
        ({"age": "thirty"}, "age = 'thirty' is not a number"),
        ({"age": True}, "age = True is not a number"),
        ({"member": 1}, "member = 1 is not true or false"),
        ({"since": "1970-01-01"}, "since = '1970-01-01' is not a date"),
        ({"city": 7}, "city = 7 is not a text"),
        ({"tags": "crime"}, "tags = 'crime' is not a list of texts"),
        ({"tags": ["crime", 3]}, "is not a list of texts"),
        ({"taste": ["x", "y"]}, "is not a list of numbers"),
    ],
)
def test_an_unknown_or_mistyped_feature_is_named(given: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        profile_table(Features.fit(TABLE), given)


@pytest.mark.parametrize("objective", ["softmax", "mse"])
def test_a_user_is_embedded_as_the_published_one_with_these_features(objective: str) -> None:
    world: World = planted_tastes(users=60, items=40)
    config = TrainingConfig(dim=8, epochs=1, threads=1, objective=objective)
    model = train(world.interactions, world.users, world.items, config)
    towers = Towers.load(model.weights, model.features, config)
    age = float(world.users.columns[0].values[5])
    vector = towers.embed_user({"age": age})
    published = model.vectors.profile_vectors[5]
    length = np.linalg.norm(published) if objective == "softmax" else 1.0
    assert np.allclose(vector, published / length, atol=1e-6)
