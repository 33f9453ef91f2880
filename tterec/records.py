"""The data classes that cross rooms. Frozen; arrays in them are not to be written to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# A user as callers name them: an id, or a name where ids are text.
User = int | str
Source = Literal["history", "profile", "popular", "weighted-average", "cluster"]
Strategy = Literal["weighted-average", "cluster-kmeans", "cluster-gmm", "popular"]
ClusterMethod = Literal["kmeans", "gmm"]
Kind = Literal["number", "text", "text[]", "vector", "boolean", "date"]

UNRATED_BUCKET = 11
"""Index of the history weight of an interaction without a rating; 0-10 are the ratings'."""
LEADERS = 60
"""So many of the items that a user has met, the most telling, name candidates of the second
stage. On Book-Crossing's core all of them gave the same lists to within .001 of NDCG@20."""


@dataclass(frozen=True, slots=True)
class Progress:
    """One step of a long verb: `done` of `total` units of `stage`; or a line to print; or the end
    of a stage.

    `total` is None while it is unknown. A `message` is a line for the log, shown as it is.
    `seconds` is how long the stage took, which is over.
    """

    stage: str
    done: int = 0
    total: int | None = None
    message: str | None = None
    seconds: float | None = None


ProgressCallback = Callable[[Progress], None]


def ignore(_: Progress) -> None:
    """The progress callback of a caller who does not watch."""


@dataclass(frozen=True, slots=True)
class Recommendation:
    """One line of a ranked list; the columns of `tterec.recommend()` in SQL.

    `score` is what the list is ordered by. `similarity` is the inner product of the user's and
    the book's vector, None where no vector was involved (popular books). `isbn` and `title` are
    None where the items query has none.
    """

    rank: int
    book_id: int
    isbn: str | None
    title: str | None
    score: float
    similarity: float | None
    source: Source


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one of a user's own books, or their profile, adds to the score of another book; the
    columns of `tterec.explain()` in SQL.

    `book_id`, `isbn`, `title` and `rating` are None of the profile; `rating` also where there is
    none, ISBN and title where the book has left the catalogue.
    """

    rank: int
    book_id: int | None
    isbn: str | None
    title: str | None
    rating: float | None
    contribution: float


@dataclass(frozen=True)
class Interactions:
    """Users' interactions with items; one entry a (user, item) pair.

    user_ids, item_ids: int64 (n,). ratings: float32 (n,), 0-10, NaN where the user interacted
    without rating. rated_at: float64 (n,), seconds since 1970, NaN where unknown.
    """

    user_ids: NDArray[np.int64]
    item_ids: NDArray[np.int64]
    ratings: NDArray[np.float32]
    rated_at: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.user_ids)

    def select(self, rows: slice | NDArray[np.integer | np.bool_]) -> Interactions:
        """Some of them, by a mask (n,) or by rows."""
        return Interactions(
            self.user_ids[rows], self.item_ids[rows], self.ratings[rows], self.rated_at[rows]
        )


@dataclass(frozen=True)
class Column:
    """A feature column, one value a row of its table.

    kind 'number': float64 (n,), NaN for NULL. 'date': float64 (n,), days since 1970, NaN for
    NULL. 'boolean': float64 (n,), 1, 0 or NaN. 'text': object (n,) of str or None.
    'text[]': object (n,) of list[str] or None. 'vector': float32 (n, width), NaN rows for NULL.
    """

    name: str
    kind: Kind
    values: NDArray[Any]


@dataclass(frozen=True)
class FeatureTable:
    """Users or items with their feature columns. ids: int64 (n,), unique, ascending.

    digests: uint8 (n, 16), of each whole row as the source returned it; None of a table that did
    not come from one.
    """

    ids: NDArray[np.int64]
    columns: tuple[Column, ...] = ()
    digests: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class ProfileColumn:
    """A column of the user tower, as a profile's vector is computed from it, d-dimensional.

    Numbers, booleans, dates and vectors: mean and scale float64 (w,), and weights float32
    (w + 1, d), the last those of the flag "missing". Texts: `buckets`, and keys of their tokens
    with embeddings float32 (tokens, d): those of values, by `encoding.token_key`, and of the
    buckets, by their number. The other kind's are None, or empty.
    """

    name: str
    kind: Kind
    mean: NDArray[np.float64] | None
    scale: NDArray[np.float64] | None
    weights: NDArray[np.float32] | None
    buckets: int
    tokens: Sequence[str]
    embeddings: NDArray[np.float32]


@dataclass(frozen=True)
class TrainedVectors:
    """What a generation publishes. All vectors float32, d-dimensional.

    item_ids: int64 (n,), with item_embeddings (n, d) and history_vectors (n, d).
    user_ids: int64 (m,), with profile_vectors (m, d): the profile part of the user tower.
    default_profile: (d,), for a user who is in no table. history_weights: float64 (12,), by
    rating bucket 0-10 and, last, unrated. `normalised`: user vectors are divided by their norm
    (and item_embeddings have norm 1). profile_columns: the user tower's.
    """

    item_ids: NDArray[np.int64]
    item_embeddings: NDArray[np.float32]
    history_vectors: NDArray[np.float32]
    user_ids: NDArray[np.int64]
    profile_vectors: NDArray[np.float32]
    default_profile: NDArray[np.float32]
    history_weights: NDArray[np.float64]
    normalised: bool
    max_history: int
    profile_columns: tuple[ProfileColumn, ...] = ()

    @property
    def dim(self) -> int:
        """The number of dimensions d."""
        return int(self.item_embeddings.shape[1])


class TraitValue(NamedTuple):
    """A value that items share: the feature's name, its normalised text, and what it weighs."""

    name: str
    text: str
    weight: float


@dataclass(frozen=True)
class Ranker:
    """The second stage: score = similarity_weight · similarity + Σ w(rating) · weight, over the
    items met, with w(rating) = rating / 10, and unrated_weight where there is none.

    item_ids: int64 (n,), ascending. Of item i, sources[offsets[i] : offsets[i + 1]] are the rows
    of the items that speak for it when they were met, with float32 weights; offsets int64
    (n + 1,), sources int64, ascending. Sources from n to `width` are traits, values of features:
    item i has traits[trait_offsets[i] : trait_offsets[i + 1]], and a trait counts with the log
    of 1 plus the w(rating) of the items met that have it. leads: int64 (n, l), the ids of the
    items that each item speaks for most, padded with -1: candidates, beside the `candidates`
    nearest to their vector, of those to whom it is one of the LEADERS most telling items that
    they met. trait_values: which value each trait is, (width - n,); empty where it is not known.
    """

    item_ids: NDArray[np.int64]
    offsets: NDArray[np.int64]
    sources: NDArray[np.int64]
    weights: NDArray[np.float32]
    leads: NDArray[np.int64]
    width: int
    trait_offsets: NDArray[np.int64]
    traits: NDArray[np.int64]
    similarity_weight: float
    unrated_weight: float
    candidates: int
    trait_values: tuple[TraitValue, ...] = ()


@dataclass(frozen=True)
class Clusters:
    """Items in clusters: centres float32 (c, d); item_ids int64 (n,), ascending, with the number
    of the cluster of each in labels, int64 (n,)."""

    method: ClusterMethod
    centres: NDArray[np.float32]
    item_ids: NDArray[np.int64]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class TrainedModel:
    """A training run's result: vectors to publish, and the towers that made them.

    `weights` are safetensors bytes; `features` is the JSON-able feature specification that,
    with the weights, embeds any user or item again. `metrics` are plain numbers. `validation`
    holds the interactions that the towers did not learn from. Without `ranker` the similarity
    alone orders lists.
    """

    vectors: TrainedVectors
    weights: bytes
    features: dict[str, Any]
    metrics: dict[str, Any] = field(default_factory=dict)
    validation: Interactions | None = None
    ranker: Ranker | None = None


@dataclass(frozen=True, slots=True)
class GenerationInfo:
    """One row of the registry, as `tterec models list` shows it.

    `forgotten_users` are those that it learned from and that were deleted since.
    """

    generation: int
    status: str
    active: bool
    created_at: str
    objective: str
    dim: int | None
    counts: dict[str, Any]
    metrics: dict[str, Any]
    forgotten_users: int = 0

    @property
    def ndcg(self) -> float | None:
        """NDCG@20 on validation of the lists that it serves; None where nothing was validated."""
        stages = ("validation_ndcg_at_20", "validation_ndcg_at_20_ranker")  # the better one serves
        figures = [self.metrics[name] for name in stages if self.metrics.get(name) is not None]
        return max(figures, default=None)


@dataclass(frozen=True)
class Figure:
    """A figure and the bounds of its 95% bootstrap interval.

    None where it is undefined: of no users, or, for the bounds, not a sum over users.
    """

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class ModelFigures:
    """A model's figures by metric: of all users, by groups of users, and by classes of items,
    whose names are in `tterec.evaluation.groups`.

    Those by item popularity are recall: the share of the relevant items of a class that the
    lists have found.
    """

    overall: dict[str, Figure]
    by_user_ratings: dict[str, dict[str, Figure]]
    by_item_popularity: dict[str, dict[str, Figure]]
