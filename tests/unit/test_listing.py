"""How far down the rules look."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tterec import Recommendation, Rules
from tterec.listing import Facts, depth, under_rules
from tterec.ranking import rules as ranking_rules
from tterec.ranking.rules import CANDIDATES

BOOKS = 5000


def catalogue(books: int = BOOKS) -> list[Recommendation]:
    """Books that rank by their id."""
    return [
        Recommendation(i, i, str(i), None, 1 - i / books, None, "history")
        for i in range(1, books + 1)
    ]


class Ranker:
    """Finds the first n of a catalogue, with the same facts of each, and remembers what it was
    asked for."""

    def __init__(self, books: list[Recommendation], **facts: list[int] | list[bool]) -> None:
        self.books, self.facts = books, facts
        self.asked: list[int] = []

    def __call__(self, n: int) -> tuple[list[Recommendation], Facts]:
        self.asked.append(n)
        found = self.books[:n]
        known = {name: np.array(values[:n]) for name, values in self.facts.items()}
        nothing = dict.fromkeys(("authors", "ages", "available", "vectors"))
        ids = np.array([one.book_id for one in found], dtype=np.int64)
        return found, Facts(ids, **(nothing | known))


def ids(found: list[Recommendation]) -> list[int]:
    """The books of a list."""
    return [one.book_id for one in found]


def test_the_best_few_hundred_are_asked_for_once() -> None:
    find = Ranker(catalogue(), authors=[1] + [2] * (BOOKS - 1))
    assert ids(under_rules(Rules(max_per_author=1), 2, 0, find)) == [1, 2]
    assert find.asked == [CANDIDATES]
    find.asked.clear()
    assert len(under_rules(Rules(dither=0.1), 200, 0, find)) == 200
    assert find.asked == [600]


def test_while_half_of_the_books_are_there_one_question_is_enough() -> None:
    find = Ranker(catalogue(), available=[i % 2 == 0 for i in range(BOOKS)])
    assert ids(under_rules(Rules(available_column="x"), 3, 0, find)) == [1, 3, 5]
    assert find.asked == [depth(Rules(available_column="x"), 3)] == [2 * CANDIDATES]


def test_a_rare_book_is_found_and_then_the_search_ends() -> None:
    find = Ranker(catalogue())
    assert ids(under_rules(Rules(available=["4999"]), 3, 0, find)) == [4999]
    assert find.asked == [600, 6000]
    find.asked.clear()
    assert under_rules(Rules(available=[]), 3, 0, find) == []
    assert find.asked == [600, 6000]


def test_an_author_of_all_the_best_does_not_empty_the_list() -> None:
    find = Ranker(catalogue(), authors=[1] * 4000 + [2] * 500 + [3] * 500)
    found = under_rules(Rules(max_per_author=1), 3, 0, find)
    assert ids(found) == [1, 4001, 4501]
    assert [one.rank for one in found] == [1, 2, 3]
    assert find.asked == [300, 3000, 30000]


@pytest.mark.parametrize("k", [0, 1, 10, 2**31 - 1])
def test_any_k_ends(k: int) -> None:
    find = Ranker(catalogue(20), authors=[1] * 20)
    found = under_rules(Rules(max_per_author=3, unavailable=["2"]), k, 0, find)
    assert ids(found) == [1, 3, 4][:k]


@settings(max_examples=50)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([0.001, 0.01, 0.2, 0.9]),
    st.sampled_from([None, 1, 3]),
    st.sampled_from([0, 1, 5, 40, 150]),
)
def test_the_list_is_that_of_the_best_available(
    seed: int, share: float, most: int | None, k: int
) -> None:
    random = np.random.default_rng(seed)
    books = catalogue(1500)
    available = (random.random(1500) < share).tolist()
    authors = random.integers(0, 30, 1500).tolist()
    ages = random.integers(0, 30, 1500).astype(float).tolist()
    rules = Rules(max_per_author=most, available_column="x", freshness=0.5)
    found = under_rules(rules, k, 0, Ranker(books, available=available, authors=authors, ages=ages))
    there = np.flatnonzero(available)
    for pooled in (max(CANDIDATES, 3 * k), 10 * max(CANDIDATES, 3 * k)):
        best = there[:pooled]
        pool = ranking_rules.Pool(
            best + 1,
            np.array([books[i].score for i in best], dtype=np.float64),
            authors=np.array(authors)[best],
            ages=np.array(ages)[best],
        )
        rows, scores = ranking_rules.apply(rules, pool, k)
        if len(rows) >= k:
            break
    assert ids(found) == (best[rows] + 1).tolist()
    assert [one.score for one in found] == scores.tolist()
