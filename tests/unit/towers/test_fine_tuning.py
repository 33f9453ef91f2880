"""Towers that go on learning: what they start from, what they learn, what they must not lose."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from tests.unit.towers.worlds import World, interactions_of, planted_tastes, texts, user_vector
from tterec.config import TrainingConfig
from tterec.records import Column, FeatureTable, TrainedModel
from tterec.towers import Towers, fine_tune, fine_tuning, train
from tterec.towers.batches import id_gates
from tterec.towers.features import Features
from tterec.towers.histories import gather_histories
from tterec.towers.optimiser import RowAdagrad
from tterec.towers.pairs import pair_digests
from tterec.towers.torch_optimiser import TorchOptimiser
from tterec.towers.warm_start import carry_over

CONFIG = TrainingConfig(dim=16, epochs=6, threads=1)


@pytest.fixture(scope="module")
def world() -> World:
    return planted_tastes()


@pytest.fixture(scope="module")
def new(world: World) -> np.ndarray:
    """A tenth by lot, and all of the last 24 items."""
    given = world.interactions
    by_lot = np.random.default_rng(1).random(len(given)) < 0.1
    mask: np.ndarray = by_lot | (given.item_ids >= 216)
    return mask


@pytest.fixture(scope="module", params=["softmax", "mse"])
def before(request: pytest.FixtureRequest, world: World, new: np.ndarray) -> TrainedModel:
    config = replace(CONFIG, objective=request.param)
    columns = (replace(column, values=column.values[:216]) for column in world.items.columns)
    items = FeatureTable(world.items.ids[:216], tuple(columns))
    return train(world.interactions.select(~new), world.users, items, config)


@pytest.fixture
def live(before: TrainedModel) -> Towers:
    objective = "softmax" if before.vectors.normalised else "mse"
    features = json.loads(json.dumps(before.features))
    return Towers.load(before.weights, features, replace(CONFIG, objective=objective))


def tuned(live: Towers, world: World, new: np.ndarray, **settings: int) -> TrainedModel:
    config = replace(live.config, **settings)  # type: ignore[arg-type]
    return fine_tune(live, world.interactions, new, world.users, world.items, config=config)


def test_before_the_first_epoch_known_items_have_the_vectors_that_they_had(
    before: TrainedModel,
    live: Towers,
    world: World,
    new: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fine_tuning, "PACE", 1e-12)
    made = tuned(live, world, new, epochs=1).vectors
    met = np.bincount(world.interactions.item_ids[~new], minlength=216) > 1
    np.testing.assert_allclose(
        made.item_embeddings[:216][met], before.vectors.item_embeddings[met], atol=1e-6
    )
    np.testing.assert_allclose(
        made.history_vectors[:216][met], before.vectors.history_vectors[met], atol=1e-6
    )
    np.testing.assert_allclose(made.profile_vectors, before.vectors.profile_vectors, atol=1e-6)
    np.testing.assert_allclose(made.default_profile, before.vectors.default_profile, atol=1e-6)


def test_a_new_item_starts_from_its_content(live: Towers, world: World) -> None:
    gates = np.full(240, 0.5, dtype=np.float32)
    start = carry_over(live, world.items, gates, live.item_features, live.user_features)
    assert not start["item_ids"][216:].any()
    assert start["item_ids"][:216].any()
    assert torch.equal(start["item_tokens"], live.parameters["item_tokens"])


def test_it_learns_new_items_and_forgets_no_old_ones(world: World, new: np.ndarray) -> None:
    """Of the last items of a genre nothing shows but who met them: their features are hidden."""
    hidden = world.items.columns[0].values.copy()
    hidden[216:] = None
    items = FeatureTable(world.items.ids, (Column("genre", "text", hidden),))
    old = FeatureTable(items.ids[:216], (Column("genre", "text", hidden[:216]),))
    model = train(world.interactions.select(~new), world.users, old, CONFIG)
    live = Towers.load(model.weights, model.features, CONFIG)
    made = fine_tune(live, world.interactions, new, world.users, items, config=CONFIG)
    metrics = made.metrics
    assert metrics["best_epoch"] > 0
    assert metrics["validation_ndcg_at_20"] > metrics["validation_ndcg_at_20_before"]
    genre = np.arange(240) % 6
    right = []
    for user in range(100):
        vector = user_vector(made.vectors, world.interactions, user)
        scores = made.vectors.item_embeddings @ vector
        right.append(
            [genre[np.argmax(scores[:216])], genre[216 + np.argmax(scores[216:])]]
            == np.array([user % 6, user % 6])
        )
    assert np.mean(right, axis=0) == pytest.approx([1.0, 1.0], abs=0.2), "chance: 1 in 6"


def test_nothing_that_it_validates_by_was_ever_learned(
    before: TrainedModel,
    live: Towers,
    world: World,
    new: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither by the live towers, nor now."""
    lessons = []
    learn = fine_tuning.learn

    def watched(lesson, *arguments, **named):  # type: ignore[no-untyped-def]
        lessons.append(lesson)
        return learn(lesson, *arguments, **named)

    monkeypatch.setattr(fine_tuning, "learn", watched)
    assert before.validation is not None
    given = world.interactions
    own = pair_digests(given.user_ids, given.item_ids)
    formerly = np.isin(own, pair_digests(before.validation.user_ids, before.validation.item_ids))
    made = fine_tune(
        live,
        given,
        new,
        world.users,
        world.items,
        config=replace(live.config, epochs=1),
        held_out=formerly,
    )
    validation = made.validation
    assert validation is not None
    held_out = pair_digests(validation.user_ids, validation.item_ids)
    assert np.isin(held_out, own[new | formerly]).all()
    assert 0 < np.isin(held_out, own[new]).sum() < len(held_out)
    assert len(np.unique(validation.user_ids)) == len(validation)
    rest = lessons[0].histories.interactions(world.items.ids)
    histories = pair_digests(rest.user_ids, rest.item_ids)
    assert not np.isin(histories, held_out).any()
    assert len(histories) == len(given) - len(held_out)


@pytest.mark.parametrize("replay", [0, 1, 3])
def test_so_many_others_are_learned_again(
    live: Towers, world: World, new: np.ndarray, replay: int
) -> None:
    made = fine_tune(
        live,
        world.interactions,
        new,
        world.users,
        world.items,
        config=replace(live.config, epochs=1),
        replay=replay,
    )
    fresh, left = divmod(made.metrics["interactions"], 1 + replay)
    assert left == 0
    assert fresh >= new.sum() * 0.89, "a tenth may be held out"


def test_all_others_may_be_learned_again(live: Towers, world: World, new: np.ndarray) -> None:
    none = np.zeros_like(new)
    made = fine_tune(
        live,
        world.interactions,
        none,
        world.users,
        world.items,
        config=replace(live.config, epochs=1),
        replay=math.inf,
    )
    assert made.metrics["interactions"] == len(world.interactions) - len(made.validation or ())


def test_the_same_seed_gives_the_same_bytes(live: Towers, world: World, new: np.ndarray) -> None:
    first, again, other = (tuned(live, world, new, epochs=2, seed=s).weights for s in (1, 1, 2))
    assert first == again != other


def test_items_that_are_gone_do_not_come_back(live: Towers, world: World, new: np.ndarray) -> None:
    columns = tuple(replace(c, values=c.values[5:]) for c in world.items.columns)
    items = FeatureTable(world.items.ids[5:], columns)
    users = FeatureTable(
        world.users.ids[5:], (replace(world.users.columns[0], values=np.zeros(395)),)
    )
    kept = (world.interactions.item_ids >= 5) & (world.interactions.user_ids >= 5)
    given = world.interactions.select(kept)
    made = fine_tune(live, given, new[kept], users, items, config=replace(live.config, epochs=2))
    again = Towers.load(made.weights, made.features, live.config)
    assert made.vectors.item_ids.min() == again.item_ids.min() == 5
    assert made.vectors.user_ids.min() == 5


def table(genres: list[str | None], tags: list[list[str]], *more: Column) -> FeatureTable:
    bags = np.empty(len(tags), dtype=object)
    bags[:] = tags
    columns = (Column("genre", "text", texts(genres)), Column("tags", "text[]", bags), *more)
    return FeatureTable(np.arange(len(genres)), columns)


def test_known_values_keep_their_rows_and_new_ones_come_behind() -> None:
    """Also of a column that is new, and of one that is met by its words as well."""
    old = table(["a", "a", "b", "b"], [["x"], ["x", "y"], ["y"], []])
    year = Column("year", "number", np.arange(6.0))
    now = table(["c", "c", "c", "a", "b", None], [["z"], ["z"], ["x"], ["y"], [], []], year)
    features = Features.fit(old)
    extended = features.extended(now)
    assert [column.get("values") for column in extended.columns] == [
        ["a", "b", "c"],
        ["x", "y", "z"],
        None,
    ]
    assert features.columns[0]["values"] == ["a", "b"], "the live generation's stay as they are"
    given = interactions_of(np.array([0, 0, 0, 1, 1, 1]), np.array([0, 1, 2, 1, 2, 3]))
    config = TrainingConfig(dim=4, epochs=1, threads=1)
    model = train(given, FeatureTable(np.arange(2)), old, config)
    live = Towers.load(model.weights, model.features, config)
    gates = np.zeros(6, dtype=np.float32)
    start = carry_over(live, now, gates, extended, live.user_features)
    assert start["item_dense"].tolist() == [[0.0] * 4] * 2
    before, after = live.parameters["item_tokens"], start["item_tokens"]
    assert torch.equal(after[[0, 1, 3, 4]], before)
    assert not after[[2, 5]].any()


def test_words_keep_their_buckets_behind_new_values() -> None:
    names = [f"author {n // 2}" for n in range(2400)]
    old = FeatureTable(np.arange(2400), (Column("author", "text", texts([*names])),))
    now = FeatureTable(np.arange(2402), (Column("author", "text", texts([*names, "new", "new"])),))
    features = Features.fit(old)
    buckets = features.columns[0]["buckets"]
    assert buckets > 0
    extended = features.extended(now)
    given = interactions_of(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 2]))
    config = TrainingConfig(dim=4, epochs=1, threads=1)
    model = train(given, FeatureTable(np.arange(2)), old, config)
    live = Towers.load(model.weights, model.features, config)
    live.parameters["item_tokens"].normal_(generator=torch.Generator().manual_seed(0))
    gates = id_gates(
        gather_histories(given, FeatureTable(np.arange(2)), now, 200), len(now), shrinkage=1.0
    )
    start = carry_over(live, now, gates, extended, live.user_features)
    moved = Towers(
        start | {"item_ids": live.parameters["item_ids"]},
        live.item_ids,
        extended,
        live.user_features,
        config,
    )
    expected = live.embed_items(old).embeddings
    np.testing.assert_array_equal(moved.embed_items(now).embeddings[:2400], expected)


def test_what_no_step_meets_stays_where_parameters_were_carried_over() -> None:
    for kind in ("adagrad", "adamw", "nadam", "sparseadam"):
        parameter = torch.ones(3, 2)
        named = {"learning_rate": 0.1, "weight_decay": 1.0, "decayed": ["t"], "carried": True}
        optimiser = (
            RowAdagrad({"t": parameter}, **named)  # type: ignore[arg-type]
            if kind == "adagrad"
            else TorchOptimiser({"t": parameter}, kind, tables=["t"], **named)  # type: ignore[arg-type]
        )
        for _ in range(3):
            optimiser.rows("t", torch.tensor([1])).sum().backward()
            optimiser.step()
            optimiser.settle()
        assert parameter[0].tolist() == parameter[2].tolist() == [1.0, 1.0], kind
        assert parameter[1, 0] < 0.9
