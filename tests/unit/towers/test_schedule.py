"""The pace of learning, by hand."""

import pytest

from tterec.towers.schedule import pace


def test_constant_stays() -> None:
    assert [pace(done, "constant", warmup=0, epochs=4) for done in (0.1, 4)] == [1.0, 1.0]


def test_linear_falls_to_nothing_at_the_end() -> None:
    found = [pace(done, "linear", warmup=0, epochs=4) for done in (0, 1, 2, 4)]
    assert found == pytest.approx([1.0, 0.75, 0.5, 0.0])


def test_cosine_falls_slowly_at_both_ends() -> None:
    found = [pace(done, "cosine", warmup=0, epochs=4) for done in (0, 1, 2, 3, 4)]
    half = 0.5**0.5 / 2
    assert found == pytest.approx([1.0, 0.5 + half, 0.5, 0.5 - half, 0.0])


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_every_schedule_rises_while_it_warms_up(schedule: str) -> None:
    found = [pace(done, schedule, warmup=2, epochs=6) for done in (0.5, 1, 2)]
    assert found == pytest.approx([0.25, 0.5, 1.0])


def test_a_warm_up_longer_than_training_does_no_harm() -> None:
    assert pace(3, "linear", warmup=5, epochs=3) == pytest.approx(0.6)
