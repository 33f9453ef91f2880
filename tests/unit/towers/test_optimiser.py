"""The row-wise optimiser against torch's Adagrad."""

import pytest
import torch

from tterec.towers.optimiser import RowAdagrad


def optimiser_of(table: torch.Tensor, weight_decay: float = 0.5) -> RowAdagrad:
    return RowAdagrad({"t": table}, learning_rate=0.01, weight_decay=weight_decay, decayed=["t"])


def test_rows_met_in_every_step_move_as_with_adagrad() -> None:
    start = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    ours, theirs = start.clone(), start.clone().requires_grad_()
    optimiser = optimiser_of(ours, weight_decay=0.0)
    reference = torch.optim.Adagrad([theirs], lr=0.01)
    for step in range(30):
        wanted = torch.randn(6, 4, generator=torch.Generator().manual_seed(step))
        (optimiser.rows("t", torch.arange(6)) - wanted).square().sum().backward()
        optimiser.step()
        reference.zero_grad()
        (theirs - wanted).square().sum().backward()
        reference.step()
    torch.testing.assert_close(ours, theirs.detach(), atol=1e-5, rtol=1e-5)


def meet(optimiser: RowAdagrad, row: int, steps: int) -> None:
    for _ in range(steps):
        optimiser.rows("t", torch.tensor([row])).sum().backward()
        optimiser.step()


def test_a_row_that_is_seldom_met_decays_by_the_same_share_as_one_that_is_always_met() -> None:
    table = torch.ones(3, 2)
    optimiser = optimiser_of(table)
    meet(optimiser, row=1, steps=1)
    once = optimiser.rows("t", torch.tensor([1]))[0].detach()
    meet(optimiser, row=0, steps=10)
    expected = (once * (1 - 0.01 * 0.5) ** 10).tolist()
    assert optimiser.rows("t", torch.tensor([1]))[0].tolist() == pytest.approx(expected)
    optimiser.settle()
    optimiser.settle()
    assert table[1].tolist() == pytest.approx(expected)


def test_a_row_that_was_never_met_says_nothing() -> None:
    table = torch.ones(3, 2)
    optimiser = optimiser_of(table)
    meet(optimiser, row=1, steps=2)
    optimiser.settle()
    assert table[2].tolist() == [0.0, 0.0]


def test_parameters_that_are_not_named_do_not_decay() -> None:
    table, vector = torch.ones(3, 2), torch.ones(4)
    optimiser = RowAdagrad(
        {"t": table, "v": vector}, learning_rate=0.1, weight_decay=1.0, decayed=["t"]
    )
    loss = optimiser.rows("t", torch.tensor([0])).sum() + 0 * optimiser.whole("v").sum()
    loss.backward()
    optimiser.step()
    optimiser.settle()
    assert vector.tolist() == [1.0] * 4
    assert table[0].tolist() == pytest.approx([0.8, 0.8])


def test_a_table_read_whole_moves_as_one_of_which_all_rows_are_read() -> None:
    start = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    whole, rowwise = start.clone(), start.clone()
    of_whole, of_rows = optimiser_of(whole), optimiser_of(rowwise)
    for step in range(10):
        wanted = torch.randn(6, 4, generator=torch.Generator().manual_seed(step))
        (of_whole.whole("t") - wanted).square().sum().backward()
        (of_rows.rows("t", torch.arange(6)) - wanted).square().sum().backward()
        for optimiser in (of_whole, of_rows):
            optimiser.step()
    for optimiser in (of_whole, of_rows):
        optimiser.settle()
    torch.testing.assert_close(whole, rowwise)


def test_scalars_and_vectors_keep_their_shape() -> None:
    scalar = torch.tensor(2.0)
    optimiser = RowAdagrad({"s": scalar}, learning_rate=0.1, weight_decay=0.0, decayed=[])
    leaf = optimiser.whole("s")
    assert leaf.shape == ()
    leaf.square().backward()
    optimiser.step()
    assert scalar.item() == pytest.approx(1.9), "the first step is as long as the learning rate"
