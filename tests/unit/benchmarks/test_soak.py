"""The soak's checker finds what is planted: a checker that finds nothing proves nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from tests.benchmarks.soak import figures, late
from tests.benchmarks.soak_checks import Generation, Seen, faults
from tests.integration.generations import random_ranker, random_vectors
from tterec.ranking import exact
from tterec.ranking.second_stage import Stage
from tterec.records import Recommendation

USER, ITEMS = 3, np.arange(1, 61)
HISTORY = ([4, 9, 30], [8.0, None, 2.0])


def generation(number: int, *, ranker: bool = True) -> Generation:
    """Made-up vectors of its own."""
    vectors = random_vectors(ITEMS, [USER], dim=8, seed=number)
    return Generation(
        number=number,
        item_ids=ITEMS,
        items=vectors.item_embeddings,
        histories=vectors.history_vectors,
        profiles={USER: vectors.profile_vectors[0]},
        default_profile=vectors.default_profile,
        history_weights=vectors.history_weights,
        normalised=True,
        max_history=200,
        stage=Stage(random_ranker(ITEMS, seed=number)) if ranker else None,
    )


def listed(
    vectors: Generation, k: int = 10, *, of_user: Generation | None = None
) -> list[Recommendation]:
    """The list as it should be; with another generation's user vector, as it never may be."""
    user = (of_user or vectors).vector(USER, *HISTORY)
    similarities = exact.exact_scores(user.vector, vectors.items)
    scores = similarities
    if vectors.stage is not None:
        evidence = vectors.vector(USER, *HISTORY).evidence
        assert evidence is not None
        weight = vectors.stage.ranker.similarity_weight
        scores = exact.mixed_scores(similarities, evidence, weight)
    scores[np.array(HISTORY[0]) - 1] = -9
    return [
        Recommendation(
            place, int(ITEMS[i]), "", None, float(scores[i]), float(similarities[i]), "history"
        )
        for place, i in enumerate(exact.rank(ITEMS, scores, k).tolist(), start=1)
    ]


def seen(rows: Sequence[Recommendation], live: int | None = 1) -> Seen:
    """The list of a reader who has met HISTORY, in a shop of 60 books."""
    return Seen(USER, 10, rows, frozenset(HISTORY[0]), 57, HISTORY, live)


FIRST, SECOND = generation(1), generation(2)
BOTH = [FIRST, SECOND]


def test_a_right_list_has_no_fault() -> None:
    assert faults(seen(listed(FIRST)), BOTH) == []
    assert faults(seen(listed(SECOND), 2), BOTH) == []
    assert faults(seen(listed(SECOND), None), BOTH) == []
    plain = generation(3, ranker=False)
    assert faults(seen(listed(plain), 3), [*BOTH, plain]) == []


def test_rows_of_two_generations_are_a_mixture() -> None:
    first, second = listed(FIRST), listed(SECOND)
    mixed = sorted(
        {row.book_id: row for row in [*first[:5], *second[:5]]}.values(),
        key=lambda row: (-row.score, row.book_id),
    )
    mixed = [replace(row, rank=place) for place, row in enumerate(mixed, start=1)]
    found = faults(replace(seen(mixed), k=len(mixed)), BOTH)
    assert len(found) == 1
    assert "no generation explains all" in found[0]


def test_a_users_vector_of_another_generation_is_a_mixture() -> None:
    plain = [generation(n, ranker=False) for n in (1, 2)]
    found = faults(seen(listed(plain[0], of_user=plain[1])), plain)
    assert "no generation explains all" in found[0]


def test_evidence_of_another_generation_is_a_mixture() -> None:
    crossed = replace(FIRST, stage=SECOND.stage)
    found = faults(seen(listed(crossed)), BOTH)
    assert "no generation explains all" in found[0]


def test_a_list_of_a_generation_that_is_not_live_is_told() -> None:
    found = faults(seen(listed(SECOND), 1), BOTH)
    assert found == ["user 3, k = 10: the list is of generation [2], live is 1"]


def test_a_rated_book_is_told() -> None:
    rows = listed(FIRST)
    other = replace(seen(rows), rated=frozenset({rows[4].book_id, 9}))
    assert f"rated books [{rows[4].book_id}] are listed" in faults(other, BOTH)[0]


def test_fewer_rows_than_exist_are_told() -> None:
    rows = listed(FIRST)[:9]
    assert "9 rows, and 57 books exist" in faults(seen(rows), BOTH)[0]
    assert faults(replace(seen(rows), exist=9), BOTH) == []


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda rows: [rows[0], *rows[:9]], "comes twice"),
        (lambda rows: rows[::-1], "not in order"),
        (lambda rows: [replace(rows[0], rank=2), *rows[1:]], "ranks are"),
        (lambda rows: [replace(rows[0], source="popular"), *rows[1:]], "several sources"),
        (lambda rows: [replace(rows[0], similarity=None), *rows[1:]], "no generation explains"),
        (
            lambda rows: [replace(rows[0], score=rows[0].score + 0.01), *rows[1:]],
            "no generation explains",
        ),
    ],
)
def test_a_list_that_is_none_is_told(change: object, complaint: str) -> None:
    assert callable(change)
    assert any(complaint in one for one in faults(seen(change(listed(FIRST))), BOTH))


def test_what_is_not_known_is_not_judged() -> None:
    """A book newer than the vectors in memory; a history that changed meanwhile."""
    rows = listed(FIRST)
    newer = [*rows[:9], replace(rows[9], book_id=99, similarity=0.5)]
    assert faults(seen(newer), BOTH) == []
    other = replace(seen([replace(one, similarity=0.1) for one in rows]), history=None)
    assert faults(other, BOTH) == []


def test_waits_and_delays_over_the_limit_are_told() -> None:
    assert late({"reader 1": 0.3, "reader 2": 0.999}, 1.0, "waited for a lock") == []
    assert late({"reader 1": 1.25}, 1.0, "waited for a lock") == [
        "reader 1 waited for a lock for 1.25 s"
    ]


def test_figures_are_percentiles_in_milliseconds() -> None:
    assert figures([n / 1000 for n in range(1, 101)]) == "p50 50.5, p99 99.0, longest 100.0 ms"
    assert figures([]) == "none"
