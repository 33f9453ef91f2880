"""Whoever runs a benchmark sees each figure beside its target, and the exit code tells the rest."""

from __future__ import annotations

import pytest

from tests.benchmarks.targets import Targets


def test_a_missed_target_is_named_and_exits_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "sys.argv",
        [
            *("tests/benchmarks/lists.py", "--books", "40000"),
            *("--database-url=postgres://a:s3@h/d", "--database-url", "host=h password=s3"),
        ],
    )
    targets = Targets()
    targets.at_least("lists a second over those by hand", 0.764, 0.8)
    targets.at_most("p99", 25, 25, "ms")
    with pytest.raises(SystemExit) as ended:
        targets.end()
    assert ended.value.code == 1
    assert capsys.readouterr().out.splitlines() == [
        "MISSED lists a second over those by hand: 0.764 (target: at least 0.8)",
        "met    p99: 25 ms (target: at most 25 ms)",
        "by     python -m tests.benchmarks.lists --books 40000"
        " '--database-url=postgres://a:***@h/d' --database-url 'host=h password=***'",
    ]


def test_targets_that_are_met_end_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["x"])
    targets = Targets()
    targets.at_least("ratio", 1.0, 0.8)
    targets.end()
