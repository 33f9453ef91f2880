"""Which candidates are negatives, by hand."""

import torch

from tterec.towers.mining import ALL, Mining, mine

SCORES = torch.tensor([[5.0, 9.0, 4.0, 3.0, 4.9, 1.0]])
TARGET = torch.tensor([[0]])
MET = torch.tensor([[False, False, True, False, False, False]])


def negatives(mining: Mining, scores: torch.Tensor = SCORES) -> list[int]:
    excluded = mine(scores, TARGET, MET, mining)
    assert not excluded[0, 0], "the target is not to be left out"
    return [column for column in range(1, 6) if not excluded[0, column]]


def test_without_mining_all_but_those_that_are_met_are_negatives() -> None:
    assert negatives(ALL) == [1, 3, 4, 5]


def test_hard_negatives_score_highest() -> None:
    assert negatives(Mining("hard", 2, 0.0)) == [1, 4]
    assert negatives(Mining("hard", 100, 0.0)) == [1, 3, 4, 5]


def test_semi_hard_negatives_score_less_than_the_target_by_the_gap() -> None:
    assert negatives(Mining("semi-hard", 2, 0.0)) == [3, 4]
    assert negatives(Mining("semi-hard", 2, 0.5)) == [3, 5]
    assert negatives(Mining("semi-hard", 1, 0.5)) == [3]


def test_a_target_that_all_outrank_is_held_against_the_easiest() -> None:
    scores = torch.tensor([[0.0, 9.0, 0.5, 3.0, 4.9, 1.0]])
    assert negatives(Mining("semi-hard", 2, 0.5), scores) == [5]


def test_a_user_who_has_met_all_has_no_negatives() -> None:
    met = torch.tensor([[False, True, True, True, True, True]])
    for kind in ("hard", "semi-hard"):
        excluded = mine(SCORES, TARGET, met, Mining(kind, 2, 0.0))
        assert excluded.tolist() == [[False, True, True, True, True, True]]
