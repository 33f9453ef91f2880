"""The user vector's rule, recomputed in NumPy as a database would."""

import numpy as np
import pytest
import torch

from tterec.towers import model

D = 3


@pytest.fixture
def parameters() -> model.Parameters:
    shape = model.Shape(items=5, item_tokens=4, item_dense=2, user_tokens=3, user_dense=1, dim=D)
    made = model.initial_parameters(
        shape, objective="softmax", temperature=0.1, mean_rating=0.0, seed=1
    )
    generator = torch.Generator().manual_seed(2)
    for tensor in made.values():
        tensor.normal_(generator=generator)
    return made


def histories(*lists: list[int]) -> model.HistoryItems:
    lengths = [len(items) for items in lists]
    items = [item for some in lists for item in some]
    return model.HistoryItems(
        items=torch.tensor(items, dtype=torch.int64),
        buckets=torch.tensor([item + 7 for item in items], dtype=torch.int64),
        offsets=torch.tensor(np.cumsum([0, *lengths[:-1]])),
        lengths=torch.tensor(lengths),
    )


def by_rule(profile: torch.Tensor, items: list[int], parameters: model.Parameters) -> np.ndarray:
    vectors = model.history_vectors(parameters["item_ids"], parameters).numpy()
    weights = parameters["history_weights"].numpy()
    total = sum((weights[item + 7] * vectors[item] for item in items), np.zeros(D))
    return profile.numpy() + total / max(len(items), 1) ** 0.5


def test_a_user_is_the_profile_and_the_weighted_history_over_the_root_of_its_length(
    parameters: model.Parameters,
) -> None:
    profiles = torch.randn(3, D, generator=torch.Generator().manual_seed(3))
    sums = model.sum_histories(histories([0, 2, 4], [], [1]), parameters["item_ids"], parameters)
    users = model.user_vectors(profiles, sums, parameters)
    for row, items in enumerate(([0, 2, 4], [], [1])):
        assert users[row].numpy() == pytest.approx(
            by_rule(profiles[row], items, parameters), abs=1e-5
        )


def test_a_target_is_taken_out_of_its_own_history_and_of_no_other(
    parameters: model.Parameters,
) -> None:
    profiles = torch.randn(2, D, generator=torch.Generator().manual_seed(3))
    cores = parameters["item_ids"]
    sums = model.sum_histories(histories([0, 2, 4], [1]), cores, parameters)
    # Item 3 of user 0 lies beyond the history; item 1 is all the history of user 1.
    runs, own = torch.tensor([0, 0, 1]), torch.tensor([2, 3, 1])
    targets = model.Targets(cores[own], own + 7, torch.tensor([1.0, 0.0, 1.0]))
    others = model.leave_one_out(sums, runs, targets, parameters)
    users = model.user_vectors(profiles[runs], others, parameters)
    for row, (user, items) in enumerate([(0, [0, 4]), (0, [0, 2, 4]), (1, [])]):
        assert users[row].numpy() == pytest.approx(
            by_rule(profiles[user], items, parameters), abs=1e-5
        )


def test_feature_sums_weigh_tokens_and_add_dense_numbers(parameters: model.Parameters) -> None:
    tokens, into = parameters["item_tokens"], parameters["item_dense"]
    bags = model.Bags(
        tokens=torch.tensor([3, 1, 1]),
        offsets=torch.tensor([0, 2, 2]),
        weights=torch.tensor([0.5, 2.0, 1.0]),
        dense=torch.tensor([[1.0, 0.0], [0.0, 0.0], [2.0, 3.0]]),
    )
    sums = model.feature_sums(bags, tokens, into)
    torch.testing.assert_close(sums[0], 0.5 * tokens[3] + 2 * tokens[1] + into[0])
    torch.testing.assert_close(sums[1], torch.zeros(D))
    torch.testing.assert_close(sums[2], tokens[1] + 2 * into[0] + 3 * into[1])


def test_parameters_have_the_shapes_that_are_promised(parameters: model.Parameters) -> None:
    shape = model.Shape(items=5, item_tokens=4, item_dense=2, user_tokens=3, user_dense=1, dim=D)
    assert {name: tuple(p.shape) for name, p in parameters.items()} == model.initial_shapes(shape)
    named = {*model.ITEM_TOWER, *model.USER_TOWER, "log_scale"}
    assert named == set(parameters), "every parameter is regularised, but for the temperature"


def test_predictions_of_fresh_mse_towers_are_the_mean_rating() -> None:
    shape = model.Shape(items=5, item_tokens=0, item_dense=0, user_tokens=0, user_dense=0, dim=16)
    fresh = model.initial_parameters(
        shape, objective="mse", temperature=0.1, mean_rating=7.5, seed=0
    )
    profile_only = fresh["user_base"] @ fresh["item_base"]
    assert profile_only.item() == pytest.approx(7.5, abs=1e-4)


def test_unit_vectors_have_norm_one_and_zero_stays_zero() -> None:
    vectors = model.unit(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    assert vectors.tolist() == [[pytest.approx(0.6), pytest.approx(0.8)], [0.0, 0.0]]
