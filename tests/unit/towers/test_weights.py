"""Tower weights: what is saved is what is loaded, and nothing else is accepted."""

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from tests.unit.towers.worlds import World, planted_tastes, texts
from tterec.config import TrainingConfig
from tterec.errors import TterecError
from tterec.records import Column, FeatureTable, TrainedModel
from tterec.towers import Towers, train

CONFIG = TrainingConfig(dim=8, epochs=2, threads=1)


@pytest.fixture(scope="module")
def world() -> World:
    return planted_tastes(users=120, items=60)


@pytest.fixture(scope="module")
def model(world: World) -> TrainedModel:
    return train(world.interactions, world.users, world.items, CONFIG)


@pytest.mark.parametrize("objective", ["softmax", "mse"])
def test_loaded_towers_embed_as_published(world: World, objective: str) -> None:
    config = replace(CONFIG, objective=objective)
    model = train(world.interactions, world.users, world.items, config)
    features = json.loads(json.dumps(model.features))
    towers = Towers.load(model.weights, features, config)
    items = towers.embed_items(world.items)
    assert np.array_equal(items.embeddings, model.vectors.item_embeddings)
    assert np.array_equal(items.histories, model.vectors.history_vectors)
    assert np.array_equal(towers.embed_users(world.users), model.vectors.profile_vectors)
    assert np.array_equal(towers.default_profile, model.vectors.default_profile)
    assert np.array_equal(towers.history_weights, model.vectors.history_weights)
    assert towers.save() == model.weights


def test_new_items_and_users_are_embedded_by_their_features(
    world: World, model: TrainedModel
) -> None:
    towers = Towers.load(model.weights, model.features, CONFIG)
    genres = Column("genre", "text", texts(["genre 1", "genre 1", None]))
    new = towers.embed_items(FeatureTable(np.array([7000, 7001, 7002]), (genres,)))
    assert np.array_equal(new.embeddings[0], new.embeddings[1])
    assert not np.allclose(new.embeddings[0], new.embeddings[2])
    stranger = towers.embed_users(FeatureTable(np.array([5000])))
    assert stranger.shape == (1, 8)


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"",
        lambda _: b"no tensors at all",
        lambda data: data[:-100],
        lambda data: data[: len(data) // 2],
        lambda _: pickle.dumps({"item_ids": [1.0]}),
        lambda _: save_tensors({"items": np.arange(3)}),
        lambda _: save_tensors({"x": np.zeros(3, dtype=np.float32)}),
        lambda data: changed(data, "items", lambda ids: ids[::-1].copy()),
        lambda data: changed(data, "item_base", lambda base: base * np.float32(np.nan)),
        lambda data: changed(data, "item_base", lambda base: base.astype(np.float64)),
        lambda data: changed(data, "item_base", lambda base: base[:-1]),
        lambda data: changed(data, "item_tokens", lambda rows: rows[:-1]),
    ],
)
def test_damaged_bytes_are_refused(model: TrainedModel, damage: object) -> None:
    with pytest.raises(TterecError, match="train again: tterec train"):
        Towers.load(damage(model.weights), model.features, CONFIG)  # type: ignore[operator]


def test_what_was_held_out_is_not_in_the_weights(model: TrainedModel) -> None:
    """And is dropped from those that still have it."""
    assert "held_out" not in load_tensors(model.weights)
    older = save_tensors(load_tensors(model.weights) | {"held_out": np.array([5, 7])})
    assert Towers.load(older, model.features, CONFIG).save() == model.weights


def test_ids_may_lie_as_far_apart_as_bigints_go(model: TrainedModel) -> None:
    far = 2**63 - 1000
    ids = load_tensors(model.weights)["items"]
    apart = np.where(ids < np.median(ids), ids - far, ids + (far - ids.max()))
    data = changed(model.weights, "items", lambda _: apart)
    assert Towers.load(data, model.features, CONFIG).item_ids.tolist() == apart.tolist()


def changed(data: bytes, name: str, change: object) -> bytes:
    tensors = load_tensors(data)
    tensors[name] = change(tensors[name])  # type: ignore[operator]
    return save_tensors(tensors)


@pytest.mark.parametrize("features", [{}, None, {"items": [], "users": [3]}])
def test_damaged_features_are_refused(model: TrainedModel, features: object) -> None:
    with pytest.raises(TterecError, match="train again: tterec train"):
        Towers.load(model.weights, features, CONFIG)  # type: ignore[arg-type]
