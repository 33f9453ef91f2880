"""Which rows a terminal shows while a long command runs."""

from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from rich.console import Console
from rich.progress import Progress as RichProgress

from tterec.cli import bars
from tterec.records import Progress


@pytest.fixture
def shown() -> Iterator[tuple[RichProgress, bars.Bars]]:
    rows = RichProgress(console=Console(file=io.StringIO(), force_terminal=True, width=80))
    with rows:
        yield rows, bars.Bars(rows)


def names(rows: RichProgress) -> list[str]:
    return [task.description for task in rows.tasks]


def test_a_stage_that_is_over_stays_and_its_parts_go(
    shown: tuple[RichProgress, bars.Bars],
) -> None:
    rows, show = shown
    for step in (
        Progress("read sources"),
        Progress("read users", 6000),
        Progress("read items", 4000),  # how many there are is not known: the users are done
        Progress("write", 3, 9),
    ):
        show(step)
    assert names(rows) == ["read sources", "write"]
    show(Progress("read sources", seconds=1.5))
    assert names(rows) == ["read sources"]
    assert rows.tasks[0].finished
    assert rows.tasks[0].fields["seconds"] == 1.5
    show(Progress("fit"))
    show(Progress("fit", message="epoch 1"))
    assert names(rows) == ["read sources", "fit"]


def test_what_begins_again_is_not_finished(shown: tuple[RichProgress, bars.Bars]) -> None:
    """Each epoch, and each trial of a search, has a time left of its own."""
    rows, show = shown
    show(Progress("train towers"))
    for done in (1, 2, 3):
        show(Progress("train", done, 3))
    assert rows.tasks[1].finished
    show(Progress("train", 1, 3))
    assert not rows.tasks[1].finished
    show(Progress("train towers", seconds=2.0))
    show(Progress("train towers"))
    assert names(rows) == ["train towers"]
    assert not rows.tasks[0].finished
    assert rows.tasks[0].fields["seconds"] is None


@pytest.mark.parametrize(
    ("number", "text"), [(999, "999"), (1200, "1.2k"), (12_000, "12k"), (5_900_000, "5.9M")]
)
def test_counts_are_short(number: int, text: str) -> None:
    assert bars.short(number) == text
