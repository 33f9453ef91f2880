"""Rules a shop wants of a list: availability, freshness, dithering, few by one author, diversity.

Each is a pure function over the ranker's candidates; `apply` puts together those that are on.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from tterec.errors import InvalidArgument
from tterec.ranking import exact

Index = NDArray[np.int64]

CANDIDATES = 300
"""Rules choose among this many of the ranker's best, or three times k if that is more."""
NO_AUTHOR = -1

_EPOCH = date(1970, 1, 1)
_DAYS_A_YEAR = 365.2425
# Diversity chooses one by one, each choice a product with all candidates: what follows after this
# many stands in the order that it has by then.
_CHOSEN_ONE_BY_ONE = 1000


@dataclass(frozen=True, slots=True)
class Rules:
    """What a shop wants of its lists besides the best books first. Everything is off by default.

    The rules that are on are applied to the ranker's best few hundred in this order: availability,
    freshness, dithering, max_per_author, diversity; the first k of what is left are the list. Rules
    that only leave out keep the ranker's scores; where freshness, dithering or diversity is on, the
    score is the value that the last of them ordered the list by. So scores fall from rank to rank,
    and equal ones rank by id, as without rules. The same candidates make the same list.

    Columns are those of the items query. Raises InvalidArgument for a value out of range.

    The figures beside the rules are their cost, the ratio of NDCG@20 with the rule alone to that
    without, and what it buys, on Book-Crossing's core: python -m tests.benchmarks.rules
    """

    diversity: float = 0.0
    """0 to 1: how much likeness to the books above counts against a book; 1 - lambda of MMR.
    .1, .3, .5 and .7: NDCG times .998, .980, .856 and .552; the mean cosine of a list's books with
    each other falls from .40 to .39, .35, .25 and .14."""
    max_per_author: int | None = None
    """At most this many books by one author. Unknown authors are not counted. 3, 2 and 1: NDCG
    times .912, .841 and .708, for people do read on; 6.9 authors a list become 12.4, 14.8, 20."""
    author_column: str = "author"
    """What an author is. Spellings that differ in case, blanks or punctuation are one."""
    freshness: float = 0.0
    """0 to 10: what a new book gains over one of infinite age, where the scores of all candidates
    span 1. A book of unknown age neither gains nor loses. .1, .2, .5 and 1: NDCG times .995, .984,
    .945 and .788; the mean year of 1996.8 becomes 1997.4, 1998.0, 1999.6 and 2001.5."""
    half_life: float = 5.0
    """Years in which the gain of freshness halves."""
    year_column: str = "year"
    """The year of a book, a number; or its date."""
    as_of: date | None = None
    """The day that ages are counted to; None: today."""
    dither: float = 0.0
    """0 to 10: the standard deviation of noise on the logarithm of the rank. It shows users books
    that stand a little too low, and the shop what they make of them. .2, .4, .7 and 1.1: NDCG times
    .996, .967, .906 and .797; .08, .16, .28 and .42 of a list are other books."""
    seed: int = 0
    """Of dithering: another one, another list, for each user differently."""
    available: Collection[str] | None = None
    """Only books with these ISBNs."""
    unavailable: Collection[str] = ()
    """No books with these ISBNs."""
    available_column: str | None = None
    """Only books of which this boolean column is true. NULL is not. With one book in ten, drawn at
    random, not there: NDCG times .942."""

    def __post_init__(self) -> None:
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:  # NaN is out of every range
                raise InvalidArgument(
                    f"{name} = {value} is out of range; choose {low:g} to {high:g}"
                )
        for name in ("available", "unavailable"):
            isbns = getattr(self, name)
            if isinstance(isbns, str):
                raise InvalidArgument(f"{name} is one text; pass a list or set of ISBNs")
            if isbns is not None:
                object.__setattr__(self, name, frozenset(isbns))

    @property
    def on(self) -> bool:
        """Whether any rule is on."""
        return self != Rules(
            author_column=self.author_column,
            half_life=self.half_life,
            year_column=self.year_column,
            as_of=self.as_of,
            seed=self.seed,
        )


_RANGES: dict[str, tuple[float, float]] = {
    "diversity": (0.0, 1.0),
    "max_per_author": (1, 2**31),
    "freshness": (0.0, 10.0),
    "half_life": (0.01, 10_000.0),
    "dither": (0.0, 10.0),
    "seed": (0, 2**63 - 1),
}


@dataclass(frozen=True)
class Pool:
    """The ranker's candidates, in any order, with what the rules look at.

    item_ids: int64 (n,). scores: float64 (n,), the ranker's. vectors: floats (n, d), the item
    embeddings; one of zeros is like no other. authors: int64 (n,), equal for equal authors,
    NO_AUTHOR where unknown. ages: float64 (n,), years, NaN where unknown. available: bool (n,).
    What is None is unknown of every candidate.
    """

    item_ids: Index
    scores: NDArray[np.float64]
    vectors: NDArray[np.floating] | None = None
    authors: Index | None = None
    ages: NDArray[np.float64] | None = None
    available: NDArray[np.bool_] | None = None


def apply(rules: Rules, pool: Pool, k: int, user: int = 0) -> tuple[Index, NDArray[np.float64]]:
    """The list under the rules: rows of the pool (at most k,), best first, and their scores.

    `user` makes dithering differ from user to user.
    """
    rows = np.arange(len(pool.item_ids))
    if pool.available is not None:
        rows = rows[pool.available]
    keys = _rounded(pool.scores[rows])
    if rules.freshness and pool.ages is not None:
        keys = freshened(keys, pool.ages[rows], rules.freshness, rules.half_life)
    order = exact.rank(pool.item_ids[rows], keys, len(rows))
    rows, keys = rows[order], keys[order]
    if rules.dither:
        keys = dithered(len(rows), rules.dither, (rules.seed, user))
        order = exact.rank(pool.item_ids[rows], keys, len(rows))
        rows, keys = rows[order], keys[order]
    if rules.max_per_author is not None and pool.authors is not None:
        kept = first_of_each(pool.authors[rows], rules.max_per_author)
        rows, keys = rows[kept], keys[kept]
    if rules.diversity and pool.vectors is not None:
        order, keys = diversified(pool.item_ids[rows], keys, pool.vectors[rows], rules.diversity, k)
        rows = rows[order]
    return rows[:k], keys[:k]


def freshened(
    scores: NDArray[np.float64], ages: NDArray[np.float64], weight: float, half_life: float
) -> NDArray[np.float64]:
    """Scores (n,) scaled to 0-1, plus weight times (2^(-age / half_life) less its mean): (n,).

    ages (n,) and half_life in years. An unknown age, NaN, adds nothing: it counts as the mean.
    A date in the future is as new as today's.
    """
    fresh = np.exp2(-np.maximum(ages, 0.0) / half_life)
    known = ~np.isnan(fresh)
    mean = fresh[known].mean() if known.any() else 0.0
    return _rounded(_scaled(scores) + weight * np.where(known, fresh - mean, 0.0))


def dithered(n: int, deviation: float, seed: tuple[int, ...]) -> NDArray[np.float64]:
    """Keys of ranks 1 to n: -(ln(rank) + noise), the noise normal with this deviation: (n,).

    Noise on the logarithm moves the first ranks little and the later ones far (T. Dunning's
    dithering). The noise of a rank is the same whatever n is.
    """
    noise = np.random.default_rng([number % 2**64 for number in seed]).standard_normal(n)
    return _rounded(-(np.log(np.arange(1, n + 1)) + deviation * noise))


def first_of_each(groups: Index, most: int) -> NDArray[np.bool_]:
    """Which of a ranked list are among the first `most` of their group: bool (n,).

    groups: int64 (n,), in the list's order; negative: no group, and always kept.
    """
    order = np.argsort(groups, kind="stable")
    ordered = groups[order]
    before = np.empty(len(groups), dtype=np.int64)  # of the same group
    before[order] = np.arange(len(groups)) - np.searchsorted(ordered, ordered)
    kept: NDArray[np.bool_] = (before < most) | (groups < 0)
    return kept


def diversified(
    item_ids: Index,
    scores: NDArray[np.float64],
    vectors: NDArray[np.floating],
    weight: float,
    k: int,
) -> tuple[Index, NDArray[np.float64]]:
    """Order by maximal marginal relevance: positions (n,) and keys (n,), which never rise.

    The next is who has the greatest (1 - weight) · relevance - weight · likeness, where relevance
    is the score scaled to 0-1 and likeness the greatest cosine with those already chosen, 0 where
    it is negative or none is (Carbonell & Goldstein 1998). Equal keys go by item id. What is not
    among the first k follows by its key as it stands.
    """
    by_id = np.argsort(item_ids)  # so that the first of the greatest has the lowest id
    norms = np.sqrt(np.square(vectors, dtype=np.float64).sum(axis=1, keepdims=True))
    units = (vectors / np.where(norms > 0, norms, 1.0))[by_id]
    relevance = (1.0 - weight) * _scaled(scores[by_id])
    keys = _rounded(relevance)
    likeness = np.zeros(len(keys))
    left = np.ones(len(keys), dtype=bool)
    chosen = []
    for _ in range(min(k, len(keys), _CHOSEN_ONE_BY_ONE)):
        best = int(np.argmax(np.where(left, keys, -np.inf)))
        chosen.append(best)
        left[best] = False
        likeness = np.maximum(likeness, exact.exact_scores(units[best], units))
        keys = np.where(left, _rounded(relevance - weight * likeness), keys)
    rest = np.flatnonzero(left)
    order = np.concatenate(
        [np.array(chosen, dtype=np.int64), rest[exact.rank(rest, keys[rest], len(rest))]]
    )
    return by_id[order], keys[order]


def author_groups(names: Sequence[str | None]) -> Index:
    """A number for each name, equal for equal names, NO_AUTHOR where there is none: int64 (n,).

    Names are equal if their letters and digits are, whatever the case.
    """
    known: dict[str, int] = {"": NO_AUTHOR}
    plain = ("".join(filter(str.isalnum, (name or "").casefold())) for name in names)
    return np.array([known.setdefault(name, len(known)) for name in plain], dtype=np.int64)


def ages_of_years(years: NDArray[np.float64], as_of: date | None) -> NDArray[np.float64]:
    """Years from each year (n,), NaN where unknown, to a day, today if None: (n,)."""
    now = 1970 + ((as_of or date.today()) - _EPOCH).days / _DAYS_A_YEAR
    return now - years


def ages_of_days(days: NDArray[np.float64], as_of: date | None) -> NDArray[np.float64]:
    """The same for dates as days since 1970."""
    return ages_of_years(1970 + days / _DAYS_A_YEAR, as_of)


def _scaled(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scores (n,) on a scale where the least is 0 and the greatest 1; equal ones are 0."""
    if not len(scores):
        return scores
    least, span = scores.min(), np.ptp(scores)
    scaled: NDArray[np.float64] = (scores - least) / (span if span > 0 else 1.0)
    return scaled


def _rounded(keys: NDArray[np.float64]) -> NDArray[np.float64]:
    """To six decimals, as scores are; negative zero made positive."""
    rounded: NDArray[np.float64] = keys.round(exact.DECIMALS) + 0.0
    return rounded
