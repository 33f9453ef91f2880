"""The soak of tests/benchmarks/soak.py, for half a minute; and that it can fail."""

from __future__ import annotations

import pytest

from tests.benchmarks.soak import soak
from tests.benchmarks.soak_actors import worker_exists
from tterec.database.connection import Database
from tterec.store import pruning


def test_a_shop_stays_right_while_everything_happens_at_once(database: Database) -> None:
    """Slow calls are no fault here, where tests share the processors; waits for locks are."""
    workers = 2 if worker_exists() else 0
    report = soak(database, 25, workers=workers, publish_every=10 if workers else 2)
    print(*report.lines(), sep="\n")
    assert report.faults == []
    assert len(report.calls) == 4
    for name, calls in report.calls.items():
        assert len(calls) >= 20, name
    for what in (
        "promoted", "rolled back", "pruned", "looks at locks", "books inserted", "books deleted",
        "ratings inserted", "ratings deleted", "users inserted", "users deleted",
    ):  # fmt: skip
        assert report.counts[what] > 0, what
    assert report.counts["lists checked"] >= 200
    assert report.counts["lists of a changing history"] < report.counts["lists checked"] / 5
    if not workers:  # trainings take too long for a third generation to come and go
        assert report.counts["generations pruned"] > 0
    else:
        assert len(report.delays) > 0.9 * report.counts["books inserted"]


def test_a_prune_that_does_not_wait_for_older_snapshots_is_a_fault(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "_older_snapshots_gone", lambda *_: True)
    report = soak(database, 400, books=200, publish_every=0.1, most_faults=1)
    assert any("does not exist" in one for one in report.faults), report.faults
