"""What a batch holds: every target once, its history without it, negatives it never met."""

import numpy as np
import pytest

from tterec.records import Column, FeatureTable, Interactions
from tterec.towers.batches import RUN, Batch, Batches, id_gates
from tterec.towers.features import Features
from tterec.towers.histories import Histories, gather_histories
from tterec.towers.negatives import Negatives

USERS, ITEMS = 40, 60


@pytest.fixture
def histories() -> Histories:
    return planted()


def planted() -> Histories:
    """Forty users, of whom user u has met u + 1 of sixty items."""
    rng = np.random.default_rng(0)
    pairs = np.array(
        [(u, i) for u in range(USERS) for i in rng.choice(ITEMS, 1 + u, replace=False)]
    )
    ratings = rng.integers(1, 11, len(pairs)).astype(np.float32)
    given = Interactions(pairs[:, 0], pairs[:, 1], ratings, np.full(len(pairs), np.nan))
    return gather_histories(given, USER_TABLE, ITEM_TABLE, max_history=20)


def names(values: list[str]) -> np.ndarray:
    return np.array(values, dtype=object)


USER_TABLE = FeatureTable(
    np.arange(USERS - 5), (Column("town", "text", names([f"t{u % 3}" for u in range(USERS - 5)])),)
)
ITEM_TABLE = FeatureTable(
    np.arange(ITEMS), (Column("title", "text", names([f"word{i} book" for i in range(ITEMS)])),)
)


def negatives_of(histories: Histories, uniform: float) -> Negatives:
    counts = np.bincount(histories.items, minlength=ITEMS)
    return Negatives(counts, Features.fit(ITEM_TABLE).encode(ITEM_TABLE), uniform=uniform)


def batches_of(histories: Histories, **changed: object) -> Batches:
    settings: dict[str, object] = {
        "batch_size": 64,
        "negatives": negatives_of(histories, 0.25),
        "id_shrinkage": 1.0,
        "id_dropout": 0.0,
        "seed": 0,
    }
    return Batches(
        histories,
        np.ones(len(histories), dtype=bool),
        Features.fit(ITEM_TABLE).encode(ITEM_TABLE),
        Features.fit(USER_TABLE).encode(USER_TABLE),
        **(settings | changed),  # type: ignore[arg-type]
    )


def histories_in(batch: Batch) -> list[list[int]]:
    ends = batch.history_offsets + batch.history_lengths
    items = batch.item_rows[batch.history]
    return [
        items[start:end].tolist() for start, end in zip(batch.history_offsets, ends, strict=True)
    ]


def test_an_epoch_has_every_target_once_in_another_order_each_time(histories: Histories) -> None:
    batches = batches_of(histories)
    epochs = []
    for _ in range(2):
        targets = [batch.item_rows[batch.targets] for batch in batches.epoch()]
        assert len(targets) == batches.steps
        epochs.append(np.concatenate(targets))
    for epoch in epochs:
        assert np.array_equal(np.bincount(epoch), np.bincount(histories.items))
    assert not np.array_equal(*epochs)


def test_the_same_seed_makes_the_same_batches(histories: Histories) -> None:
    first, again, other = (
        np.concatenate([b.item_rows[b.candidates] for b in batches_of(histories, seed=s).epoch()])
        for s in (3, 3, 4)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_a_runs_history_is_its_users(histories: Histories) -> None:
    wanted = {
        tuple(histories.items[start:end][:20].tolist())
        for start, end in zip(histories.offsets[:-1], histories.offsets[1:], strict=True)
    }
    for batch in batches_of(histories).epoch():
        assert {tuple(history) for history in histories_in(batch)} <= wanted
        assert batch.runs.tolist() == sorted(batch.runs.tolist())
        assert np.bincount(batch.runs).max() <= 2 * RUN


def test_a_target_is_inside_exactly_if_it_is_in_the_history(histories: Histories) -> None:
    met = 0
    for batch in batches_of(histories).epoch():
        runs = histories_in(batch)
        for row, run in enumerate(batch.runs):
            inside = batch.item_rows[batch.targets[row]] in runs[run]
            assert inside == bool(batch.inside[row])
            met += inside
    assert 0 < met < len(histories)


def test_candidates_are_distinct_and_hold_the_targets(histories: Histories) -> None:
    for batch in batches_of(histories).epoch():
        assert len(np.unique(batch.candidates)) == len(batch.candidates)
        assert np.array_equal(batch.candidates[batch.target_columns], batch.targets)


def test_known_are_exactly_the_candidates_that_the_user_has_met(histories: Histories) -> None:
    met = {
        tuple(sorted(histories.items[start:end].tolist()))
        for start, end in zip(histories.offsets[:-1], histories.offsets[1:], strict=True)
    }
    for batch in batches_of(histories, negatives=negatives_of(histories, 50.0)).epoch():
        assert len(batch.candidates) == ITEMS, "every item was drawn"
        rows, columns = batch.known
        candidates = batch.item_rows[batch.candidates]
        for run in range(len(batch.history_lengths)):
            assert tuple(sorted(candidates[columns[rows == run]].tolist())) in met


def test_without_negatives_every_item_is_a_candidate_of_every_batch(histories: Histories) -> None:
    for batch in batches_of(histories, negatives=None).epoch():
        assert batch.item_rows[batch.candidates].tolist() == list(range(ITEMS))
        assert np.array_equal(batch.candidates[batch.target_columns], batch.targets)
        assert batch.log_q.tolist() == [0.0] * ITEMS


def test_a_batch_says_how_often_its_candidates_are_drawn(histories: Histories) -> None:
    shares = np.bincount(histories.items, minlength=ITEMS) / len(histories)
    for batch in batches_of(histories).epoch():
        expected = shares[batch.item_rows[batch.candidates]] + 0.25 / ITEMS
        assert np.exp(batch.log_q) == pytest.approx(expected)


def test_small_data_make_small_batches(histories: Histories) -> None:
    assert batches_of(histories, batch_size=100_000).steps == -(-len(histories) // 32)


def test_features_of_some_users_are_hidden_and_unknown_users_have_none(
    histories: Histories,
) -> None:
    batches = batches_of(histories)
    hidden = 0
    runs = 0
    for _ in range(5):
        for batch in batches.epoch():
            ends = [*batch.users.offsets[1:], len(batch.users.tokens)]
            hidden += int(np.sum(np.array(ends) == batch.users.offsets))
            runs += len(batch.history_lengths)
    assert 0.1 < hidden / runs < 0.5


def test_an_items_own_embedding_counts_the_more_the_more_interactions_it_has(
    histories: Histories,
) -> None:
    counts = np.bincount(histories.items, minlength=ITEMS + 1)
    gates = id_gates(histories, ITEMS + 1, 2.0)
    assert gates == pytest.approx(counts / (counts + 2))
    assert id_gates(histories, ITEMS + 1, 0.0)[[0, ITEMS]].tolist() == [1.0, 0.0]


def test_dropped_items_are_met_by_content_alone(histories: Histories) -> None:
    for batch in batches_of(histories, id_dropout=0.5).epoch():
        share = np.mean(batch.id_gates == 0)
        assert 0.2 < share < 0.8
