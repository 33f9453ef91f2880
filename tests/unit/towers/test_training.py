"""Training on generated worlds: what must be learned, and what must not go wrong."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load as load_tensors

from tests.unit.towers.worlds import (
    World,
    interactions_of,
    planted_series,
    planted_tastes,
    planted_vectors,
    ranked,
    texts,
    user_vector,
)
from tterec.config import TrainingConfig
from tterec.errors import ConfigError, TrainingError
from tterec.evaluation import ndcg_at_k, rmse
from tterec.records import Column, FeatureTable, Progress, TrainedModel
from tterec.towers import train
from tterec.towers.model import ITEM_TOWER, USER_TOWER

QUICK = TrainingConfig(dim=8, epochs=2, threads=1)


def trained(world: World, config: TrainingConfig) -> TrainedModel:
    return train(world.interactions, world.users, world.items, config)


@pytest.fixture(scope="module")
def tastes() -> World:
    return planted_tastes()


@pytest.fixture(scope="module")
def softmax(tastes: World) -> TrainedModel:
    return trained(tastes, TrainingConfig(dim=16, threads=1))


RANKING = ["softmax", "full-softmax", "triplet", "bpr"]


def ndcg_beside_popularity(tastes: World, model: TrainedModel) -> tuple[float, float]:
    """NDCG@20 of the model's lists, and of lists by popularity."""
    users = np.unique(tastes.held_out.user_ids)
    relevant = [set(tastes.held_out.item_ids[tastes.held_out.user_ids == u]) for u in users]
    counts = np.bincount(tastes.interactions.item_ids, minlength=len(tastes.items))
    by_popularity = np.argsort(-counts, kind="stable")
    lists, popular = [], []
    for user in users:
        met = tastes.interactions.item_ids[tastes.interactions.user_ids == user]
        lists.append(ranked(model.vectors, tastes.interactions, user, 20))
        popular.append(by_popularity[~np.isin(by_popularity, met)][:20])
    return (
        ndcg_at_k(np.array(lists), relevant, 20).mean(),
        ndcg_at_k(np.array(popular), relevant, 20).mean(),
    )


@pytest.mark.parametrize("objective", RANKING)
def test_every_ranking_objective_beats_popularity_by_far_where_tastes_are_planted(
    tastes: World, objective: str
) -> None:
    model = trained(tastes, TrainingConfig(dim=16, threads=1, objective=objective))
    ours, theirs = ndcg_beside_popularity(tastes, model)
    assert model.vectors.normalised
    assert ours > 1.5 * theirs
    assert ours > 0.27


@pytest.mark.parametrize(
    "settings",
    [
        {"mining": "hard", "mined": 50},
        {"mining": "semi-hard", "mined": 50},
        {"popular_negatives": 0.5, "similar_negatives": 0.5},
        {"initialisation": "spectral"},
        {"schedule": "cosine", "warmup": 1.0},
        {"optimiser": "adamw"},
        {"optimiser": "nadam"},
        {"optimiser": "sparseadam"},
    ],
    ids=str,
)
def test_every_way_of_learning_beats_popularity_where_tastes_are_planted(
    tastes: World, settings: dict[str, Any]
) -> None:
    model = trained(tastes, TrainingConfig(dim=16, threads=1, epochs=8, **settings))
    ours, theirs = ndcg_beside_popularity(tastes, model)
    assert ours > 1.4 * theirs


def test_a_spectral_start_is_ahead_after_one_epoch() -> None:
    series = planted_series()
    config = TrainingConfig(dim=32, threads=1, epochs=1, learning_rate=1e-4, id_dropout=0.0)
    random, spectral = (
        trained(series, replace(config, initialisation=start)).metrics["validation_ndcg_at_20"]
        for start in ("random", "spectral")
    )
    assert spectral > random + 0.05


def test_a_column_of_vectors_enters_both_towers() -> None:
    """A user without history gets their genre, and items that nobody has met reach its lovers."""
    world = planted_vectors()
    vectors = trained(world, TrainingConfig(dim=16, threads=1)).vectors
    new_users = [
        np.mean(np.array(ranked(vectors, world.interactions, user, 10)) % 6 == user % 6)
        for user in range(500, 600)
    ]
    new_items = [
        np.mean(
            (
                240
                + np.argsort(
                    -(
                        vectors.item_embeddings[240:]
                        @ user_vector(vectors, world.interactions, user)
                    )
                )[:10]
            )
            % 6
            == user % 6
        )
        for user in range(100)
    ]
    assert np.mean(new_users) > 0.9, "chance: 1 in 6"
    assert np.mean(new_items) > 0.9, "chance: 1 in 6"


def test_a_full_softmax_that_is_too_large_is_an_error_that_names_the_mend() -> None:
    pairs = np.arange(64 * 2048)
    given = interactions_of(pairs % 1000, pairs)
    catalogue = FeatureTable(np.arange(200_000))
    with pytest.raises(TrainingError, match=r"--objective softmax.* batch_size = 1342 in"):
        train(given, NOTHING, catalogue, replace(QUICK, objective="full-softmax"))


def test_readers_of_three_volumes_get_the_fourth_in_the_first_ten() -> None:
    series = planted_series()
    model = trained(series, TrainingConfig(threads=1))
    found = [
        volume in ranked(model.vectors, series.interactions, user, 10)
        for user, volume in zip(series.held_out.user_ids, series.held_out.item_ids, strict=True)
    ]
    assert np.mean(found) >= 0.95


def test_mse_predicts_ratings_better_than_their_mean(tastes: World) -> None:
    model = trained(tastes, TrainingConfig(objective="mse", dim=16, threads=1))
    held_out = tastes.held_out
    predicted = np.array(
        [
            user_vector(model.vectors, tastes.interactions, user)
            @ model.vectors.item_embeddings[item]
            for user, item in zip(held_out.user_ids, held_out.item_ids, strict=True)
        ]
    )
    mean = tastes.interactions.ratings.mean()
    assert not model.vectors.normalised
    assert rmse(predicted, held_out.ratings) < 0.65 * rmse(
        np.full(len(predicted), mean), held_out.ratings
    )


def test_published_vectors_cover_all_items_and_users_and_have_norm_one(
    tastes: World, softmax: TrainedModel
) -> None:
    vectors = softmax.vectors
    assert np.array_equal(vectors.item_ids, tastes.items.ids)
    assert np.array_equal(vectors.user_ids, tastes.users.ids)
    assert vectors.item_embeddings.dtype == vectors.profile_vectors.dtype == np.float32
    assert np.linalg.norm(vectors.item_embeddings, axis=1) == pytest.approx(1.0, abs=1e-6)
    assert vectors.history_weights.shape == (12,)
    assert vectors.dim == 16


@pytest.mark.parametrize("objective", [*RANKING, "mse"])
def test_the_same_seed_gives_the_same_bytes_and_another_does_not(
    tastes: World, objective: str
) -> None:
    config = replace(QUICK, objective=objective)
    first, again = trained(tastes, config), trained(tastes, config)
    assert first.weights == again.weights
    assert np.array_equal(first.vectors.item_embeddings, again.vectors.item_embeddings)
    assert trained(tastes, replace(config, seed=1)).weights != first.weights


def test_two_threads_give_the_same_bytes_twice(tastes: World) -> None:
    config = replace(QUICK, threads=2)
    assert trained(tastes, config).weights == trained(tastes, config).weights


def test_the_number_of_threads_is_restored(tastes: World) -> None:
    before = torch.get_num_threads()
    trained(tastes, replace(QUICK, threads=before + 1))
    assert torch.get_num_threads() == before


def test_every_epoch_says_loss_validation_and_speed(tastes: World) -> None:
    heard: list[Progress] = []
    train(tastes.interactions, tastes.users, tastes.items, QUICK, heard.append)
    lines = [progress.message for progress in heard if progress.message]
    assert len(lines) == 2
    for word in ("epoch 1", "loss", "validation NDCG@20", "interactions/s"):
        assert word in lines[0]
    steps = [progress for progress in heard if progress.stage == "train" and progress.total]
    assert steps[-1].done == steps[-1].total


def test_the_best_epoch_is_kept_and_patience_ends_training(tastes: World) -> None:
    heard: list[Progress] = []
    config = replace(QUICK, epochs=50, patience=2, learning_rate=0.1)
    model = train(tastes.interactions, tastes.users, tastes.items, config, heard.append)
    lines = [progress.message for progress in heard if progress.message]
    figures = [float(line.split("NDCG@20 ")[1].split()[0]) for line in lines]
    best = model.metrics["best_epoch"]
    assert max(figures) == pytest.approx(model.metrics["validation_ndcg_at_20"], abs=1e-4)
    assert figures[best - 1] == max(figures)
    assert model.metrics["epochs"] == best + 2 < 50


def test_interrupting_leaves_training_at_once(tastes: World) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.stage == "train":
            raise KeyboardInterrupt

    before = torch.get_num_threads()
    with pytest.raises(KeyboardInterrupt):
        train(tastes.interactions, tastes.users, tastes.items, QUICK, interrupt)
    assert torch.get_num_threads() == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_missing_gpu_is_an_error_that_names_the_mend(tastes: World) -> None:
    with pytest.raises(ConfigError, match="--device cpu"):
        trained(tastes, replace(QUICK, device="cuda"))


@pytest.mark.parametrize("regulariser", ["l1", "l2"])
def test_gamma_makes_parameters_smaller(tastes: World, regulariser: str) -> None:
    sizes = []
    for gamma in (0.0, 1.0):
        config = replace(QUICK, objective="mse", regulariser=regulariser, gamma=gamma)
        tensors = load_tensors(trained(tastes, config).weights)
        sizes.append(sum(np.abs(tensors[name]).sum() for name in (*ITEM_TOWER, *USER_TOWER)))
    assert sizes[1] < 0.7 * sizes[0]


def test_mse_without_a_single_rating_is_an_error_that_names_the_mend() -> None:
    series = planted_series(series=4)
    with pytest.raises(TrainingError, match="--objective softmax"):
        trained(series, replace(QUICK, objective="mse"))


def test_mse_learns_from_the_rated_interactions_only(tastes: World) -> None:
    ratings = tastes.interactions.ratings.copy()
    ratings[::2] = np.nan
    some = replace(tastes.interactions, ratings=ratings)
    model = trained(replace(tastes, interactions=some), replace(QUICK, objective="mse"))
    lent = model.metrics["validation_users"]
    assert model.metrics["interactions"] == len(ratings) // 2 - lent


NOTHING = FeatureTable(np.array([], dtype=np.int64))


@pytest.mark.parametrize("objective", [*RANKING, "mse"])
@pytest.mark.parametrize(
    ("users", "items"),
    [([1], [1]), ([1, 1, 1], [1, 2, 3]), ([1, 2, 3], [1, 1, 1]), ([1, 2], [1, 2])],
    ids=["one of each", "one user", "one item", "strangers"],
)
def test_the_smallest_data_are_trained_on(
    users: list[int], items: list[int], objective: str
) -> None:
    given = interactions_of(np.array(users), np.array(items), np.full(len(users), 7.0))
    catalogue = FeatureTable(np.arange(5))
    model = train(given, NOTHING, catalogue, replace(QUICK, objective=objective))
    assert np.isfinite(model.vectors.item_embeddings).all()
    assert model.vectors.item_embeddings.shape == (5, 8)
    assert model.vectors.profile_vectors.shape == (0, 8)


def test_columns_full_of_nothing_do_no_harm(tastes: World) -> None:
    n = len(tastes.items)
    columns = (
        *tastes.items.columns,
        Column("empty", "number", np.full(n, np.nan)),
        Column("constant", "number", np.full(n, 3.0)),
        Column("infinite", "number", np.full(n, np.inf)),
        Column("silent", "text", texts([None] * n)),
        Column("vector", "vector", np.full((n, 3), np.nan, dtype=np.float32)),
        Column("bags", "text[]", texts([None] * n)),
    )
    items = FeatureTable(tastes.items.ids, columns)
    model = trained(replace(tastes, items=items), replace(QUICK, dim=16, epochs=5))
    assert np.isfinite(model.vectors.item_embeddings).all()
    assert model.metrics["validation_ndcg_at_20"] > 0.1


def test_books_nobody_has_met_with_the_same_content_have_the_same_vectors(tastes: World) -> None:
    n = len(tastes.items)
    genres = np.append(tastes.items.columns[0].values, ["genre 2"] * 5)
    items = FeatureTable(np.arange(n + 5), (Column("genre", "text", genres),))
    vectors = trained(replace(tastes, items=items), QUICK).vectors
    assert len(np.unique(vectors.item_embeddings[n:], axis=0)) == 1
    assert len(np.unique(vectors.history_vectors[n:], axis=0)) == 1


def test_users_that_are_in_no_table_still_teach(tastes: World) -> None:
    nobody = replace(tastes, users=FeatureTable(np.array([10**9])))
    model = trained(nobody, replace(QUICK, epochs=6, dim=16))
    assert model.vectors.user_ids.tolist() == [10**9]
    assert model.metrics["validation_ndcg_at_20"] > 0.1
