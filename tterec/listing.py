"""Lists under a shop's rules: the ranker's best, what the rules look at, and what is left."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tterec.database.connection import Connection
from tterec.ranking import rules as ranking_rules
from tterec.ranking.rules import CANDIDATES, Pool, Rules
from tterec.records import Kind, Recommendation
from tterec.retrieval import pgvector
from tterec.retrieval.live_models import LiveModel
from tterec.store.item_columns import item_columns

Index = NDArray[np.int64]

_DEEPER = 10
_DEEPEST = 2**31 - 1


@dataclass(frozen=True)
class Facts:
    """What the rules look at, of some items with ascending `item_ids` (n,); see Pool."""

    item_ids: Index
    authors: Index | None
    ages: NDArray[np.float64] | None
    available: NDArray[np.bool_] | None
    vectors: NDArray[np.float32] | None

    def pool(self, rules: Rules, found: Sequence[Recommendation]) -> Pool:
        """Recommendations, all of them among the items, as candidates for the rules."""
        rows = self._rows(found)
        return Pool(
            item_ids=self.item_ids[rows],
            scores=np.array([one.score for one in found], dtype=np.float64),
            vectors=None if self.vectors is None else self.vectors[rows],
            authors=None if self.authors is None else self.authors[rows],
            ages=None if self.ages is None else self.ages[rows],
            available=self.allowed(rules, found),
        )

    def allowed(self, rules: Rules, found: Sequence[Recommendation]) -> NDArray[np.bool_]:
        """Which recommendations the rules of availability let pass: bool (found,)."""
        only, none_of = rules.available, rules.unavailable
        by_isbn = [(only is None or one.isbn in only) and one.isbn not in none_of for one in found]
        allowed = np.array(by_isbn, dtype=bool)
        return allowed if self.available is None else allowed & self.available[self._rows(found)]

    def _rows(self, found: Sequence[Recommendation]) -> Index:
        item_ids = np.array([one.book_id for one in found], dtype=np.int64)
        return np.searchsorted(self.item_ids, item_ids)


Find = Callable[[int], tuple[list[Recommendation], Facts]]
"""The best n without rules, fewer only where there are no more; and facts on all of these."""


def read_facts(
    connection: Connection, model: LiveModel | None, rules: Rules, found: Iterable[Recommendation]
) -> Facts:
    """What those rules that are on look at, of the items found, as of now.

    Raises InvalidArgument where a column that a rule names cannot serve it.
    """
    item_ids = np.unique(np.array([one.book_id for one in found], dtype=np.int64))
    wanted: dict[str, tuple[str, tuple[Kind, ...]]] = {}
    if rules.max_per_author is not None:
        wanted["author"] = rules.author_column, ("text",)
    if rules.freshness:
        wanted["year"] = rules.year_column, ("number", "date")
    if rules.available_column is not None:
        wanted["available"] = rules.available_column, ("boolean",)
    columns = item_columns(connection, list(wanted.values()), item_ids)
    by_use = dict(zip(wanted, columns, strict=True))
    author, year, available = (by_use.get(use) for use in ("author", "year", "available"))
    ages = None
    if year is not None:
        aged = ranking_rules.ages_of_days if year.kind == "date" else ranking_rules.ages_of_years
        ages = aged(year.values, rules.as_of)
    return Facts(
        item_ids,
        authors=None if author is None else ranking_rules.author_groups(author.values.tolist()),
        ages=ages,
        available=None if available is None else available.values == 1,  # NULL, too, is not
        vectors=_vectors(connection, model, item_ids) if rules.diversity and model else None,
    )


def _vectors(connection: Connection, model: LiveModel, item_ids: Index) -> NDArray[np.float32]:
    """Embeddings (n, d); zeros for an item that is newer than the generation."""
    found = pgvector.item_vectors(connection, model, item_ids)
    nothing = np.zeros(model.dim, np.float32)
    rows = [found.get(item_id, nothing) for item_id in item_ids.tolist()]
    return np.array(rows, dtype=np.float32).reshape(-1, model.dim)


def spelled(connection: Connection, rules: Rules) -> Rules:
    """The rules with their ISBNs as the catalogue has them."""
    if rules.available is None and not rules.unavailable:
        return rules
    return replace(
        rules,
        available=rules.available and pgvector.spelled_isbns(connection, rules.available),
        unavailable=pgvector.spelled_isbns(connection, rules.unavailable),
    )


def depth(rules: Rules, k: int) -> int:
    """How many a list under the rules is first made from: the n that `find` is first asked for."""
    wanted = max(CANDIDATES, 3 * k)
    # So that there are as many where up to half of the books are not available.
    return min(2 * wanted if _selective(rules) else wanted, _DEEPEST)


def under_rules(rules: Rules, k: int, user: int, find: Find) -> list[Recommendation]:
    """The k best under the rules, fewer only where the catalogue has no more.

    The rules see the best 300 that are available (3k if that is more), and ten times as many where
    those do not make a list of k.
    """
    asked, pooled = depth(rules, k), max(CANDIDATES, 3 * k)
    found, facts = find(asked)
    while True:
        there = np.flatnonzero(facts.allowed(rules, found)).tolist()
        if len(there) < pooled and len(found) == asked:
            asked = min(asked * _DEEPER, _DEEPEST)
            found, facts = find(asked)
            continue
        best = [found[row] for row in there[:pooled]]
        rows, scores = ranking_rules.apply(rules, facts.pool(rules, best), k, user)
        if len(rows) >= k or len(there) < pooled:
            chosen = enumerate(zip(rows.tolist(), scores.tolist(), strict=True), start=1)
            return [replace(best[row], rank=rank, score=score) for rank, (row, score) in chosen]
        pooled *= _DEEPER


def _selective(rules: Rules) -> bool:
    return (
        rules.available is not None or bool(rules.unavailable) or rules.available_column is not None
    )
