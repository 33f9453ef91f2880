"""torch's optimisers behind the interface of the row-wise Adagrad."""

import pytest
import torch

from tterec.towers.torch_optimiser import TorchOptimiser

KINDS = pytest.mark.parametrize("kind", ["adamw", "nadam", "sparseadam"])


def optimiser_of(
    kind: str, parameters: dict[str, torch.Tensor], weight_decay: float = 0.0
) -> TorchOptimiser:
    return TorchOptimiser(
        parameters,
        kind,
        learning_rate=0.01,
        weight_decay=weight_decay,
        decayed=["t"],
        tables=["t"],
    )


@KINDS
def test_rows_met_in_every_step_move_as_with_the_optimiser_of_that_name(kind: str) -> None:
    start = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    ours, theirs = start.clone(), start.clone().requires_grad_()
    optimiser = optimiser_of(kind, {"t": ours})
    reference = {
        "adamw": torch.optim.Adam,
        "nadam": torch.optim.NAdam,
        "sparseadam": torch.optim.Adam,  # the same while all rows are met
    }[kind]([theirs], lr=0.01)
    for step in range(30):
        wanted = torch.randn(6, 4, generator=torch.Generator().manual_seed(step))
        (optimiser.rows("t", torch.arange(6)) - wanted).square().sum().backward()
        optimiser.step()
        reference.zero_grad()
        (theirs - wanted).square().sum().backward()
        reference.step()
    torch.testing.assert_close(ours, theirs.detach(), atol=1e-5, rtol=1e-5)


@KINDS
def test_decay_shrinks_rows_that_were_met_once_and_empties_those_that_never_were(
    kind: str,
) -> None:
    table = torch.ones(3, 2)
    optimiser = optimiser_of(kind, {"t": table}, weight_decay=0.5)
    (0 * optimiser.rows("t", torch.tensor([0, 1]))).sum().backward()
    optimiser.step()
    for _ in range(9):
        (0 * optimiser.rows("t", torch.tensor([0]))).sum().backward()
        optimiser.step()
    optimiser.settle()
    kept = (1 - 0.01 * 0.5) ** 10
    assert table[:2].flatten().tolist() == pytest.approx([kept] * 4, abs=1e-6)
    assert table[2].tolist() == [0.0, 0.0]


def test_sparseadam_leaves_rows_alone_that_a_step_did_not_meet() -> None:
    for kind, stays in (("sparseadam", True), ("adamw", False)):
        table = torch.ones(2, 2)
        optimiser = optimiser_of(kind, {"t": table})
        for row in (1, 0):
            before = table[1].clone()
            optimiser.rows("t", torch.tensor([row])).sum().backward()
            optimiser.step()
        assert torch.equal(before, table[1]) == stays


@KINDS
def test_what_is_no_table_is_read_whole_and_keeps_its_shape(kind: str) -> None:
    scalar, table = torch.tensor(2.0), torch.ones(0, 3)
    optimiser = optimiser_of(kind, {"t": table, "s": scalar})
    assert optimiser.whole("s").shape == ()
    loss = optimiser.whole("s").square() + optimiser.rows("t", torch.arange(0)).sum()
    loss.backward()
    optimiser.learning_rate = 0.1
    optimiser.step()
    optimiser.settle()
    assert scalar.item() == pytest.approx(1.9, abs=0.02)
