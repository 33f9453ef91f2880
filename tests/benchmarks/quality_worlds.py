"""Generated sets of interactions with the structure of real ones: tastes, series, popularity."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tterec.records import Column, FeatureTable, Interactions

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class World:
    """How a set is generated.

    Items have a genre, a place in a space of tastes near that of their genre, a popularity that
    falls by a power, and half or so are parts of series. Users have a place in the same space
    near a few genres. A user meets items by popularity and nearness, and having met one part of
    a series is likely to meet the next.
    """

    users: int
    items: int
    per_user: float
    """Mean number of interactions."""
    genres: int
    tastes: int
    """Dimensions of the space."""
    sharpness: float
    """How much nearness decides what is met, against chance and popularity."""
    popularity: float
    """The power by which popularity falls with rank."""
    in_series: float
    """Share of items that are parts of series."""
    sequel: float
    """The probability that the next part follows one that was met."""
    stars: int
    """Ratings are whole numbers up to this many, stretched to 10."""
    content: bool
    """Whether items and users have features."""
    seed: int


DENSE = World(
    users=4_000,
    items=3_000,
    per_user=50,
    genres=24,
    tastes=16,
    sharpness=2.2,
    popularity=0.7,
    in_series=0.5,
    sequel=0.6,
    stars=10,
    content=True,
    seed=11,
)
BARE = World(
    users=6_000,
    items=2_000,
    per_user=25,
    genres=12,
    tastes=10,
    sharpness=1.6,
    popularity=0.9,
    in_series=0.25,
    sequel=0.4,
    stars=5,
    content=False,
    seed=12,
)


@lru_cache(maxsize=4)
def generated(world: World) -> tuple[Interactions, FeatureTable, FeatureTable]:
    """All interactions, users and items of a world."""
    random = np.random.default_rng(world.seed)
    genres = random.normal(size=(world.genres, world.tastes))
    follows, series = _series(world, random)
    # Parts of a series share the genre and nearly the place of its first.
    of_genre = random.integers(0, world.genres, world.items)[series]
    places = _unit(genres[of_genre] + 0.7 * random.normal(size=(world.items, world.tastes))[series])
    places = _unit(places + 0.15 * random.normal(size=places.shape))
    popularity = -world.popularity * np.log(10 + random.permutation(world.items))
    mixture = random.dirichlet(np.full(world.genres, 0.15), world.users)
    readers = _unit(mixture @ genres + 0.5 * random.normal(size=(world.users, world.tastes)))
    # Most users meet few items, some very many.
    spread = 0.9
    lengths = np.exp(random.normal(np.log(world.per_user) - spread**2 / 2, spread, world.users))
    lengths = lengths.clip(8, world.items / 4).astype(int)
    nearness = readers @ places.T * np.sqrt(world.tastes)
    rows, columns = [], []
    for user in range(world.users):
        chance = random.gumbel(size=world.items)
        order = np.argsort(-(world.sharpness * nearness[user] + popularity + chance))
        met = _with_sequels(order, follows, lengths[user], world.sequel, random)
        rows.append(np.full(len(met), user))
        columns.append(np.array(met))
    user_ids, item_ids = np.concatenate(rows), np.concatenate(columns)
    quality, mildness = random.normal(size=world.items), random.normal(size=world.users)
    liking = 0.8 * nearness[user_ids, item_ids] + 0.5 * quality[item_ids] + 0.5 * mildness[user_ids]
    liking = liking + 0.7 * random.normal(size=len(liking))
    middle, step = 0.65 * world.stars, 0.17 * world.stars
    liking = (liking - liking.mean()) / liking.std()
    ratings = np.round(middle + step * liking).clip(1, world.stars) * (10 / world.stars)
    interactions = Interactions(
        user_ids.astype(np.int64),
        item_ids.astype(np.int64),
        ratings.astype(np.float32),
        np.full(len(ratings), np.nan),
    )
    items = _item_columns(of_genre, series, random) if world.content else ()
    users = _user_columns(mixture, random) if world.content else ()
    return (
        interactions,
        FeatureTable(np.arange(world.users), users),
        FeatureTable(np.arange(world.items), items),
    )


def _series(
    world: World, random: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The part that follows each item, -1 for none, and each item's first part: (items,) each."""
    follows = np.full(world.items, -1)
    first = np.arange(world.items)
    waiting = random.permutation(world.items)[: int(world.in_series * world.items)]
    while len(waiting) > 1:
        parts, waiting = np.split(waiting, [min(random.integers(2, 8), len(waiting))])
        follows[parts[:-1]] = parts[1:]
        first[parts] = parts[0]
    return follows, first


def _with_sequels(
    order: NDArray[np.int64],
    follows: NDArray[np.int64],
    length: int,
    sequel: float,
    random: np.random.Generator,
) -> list[int]:
    """The first `length` items of an order, in which next parts of series push themselves in."""
    met: dict[int, None] = {}
    for start in order.tolist():
        item = start
        while item >= 0 and item not in met and len(met) < length:
            met[item] = None
            item = int(follows[item]) if random.random() < sequel else -1
        if len(met) >= length:
            break
    return list(met)


def _item_columns(
    of_genre: NDArray[np.int64], series: NDArray[np.int64], random: np.random.Generator
) -> tuple[Column, ...]:
    """Title, author, publisher and year; a tenth of the items has none of them, as in real data."""
    count = len(series)
    known = random.random(count) > 0.1
    # An author keeps to a genre and has a series or a few single books.
    authors = (of_genre * 1_000 + random.integers(0, 40, count))[series]
    words = random.integers(0, 60, size=(count, 2))
    common = random.integers(0, 3_000, size=(count, 2))
    titles = [
        f"g{of_genre[i]}w{words[i, 0]} s{series[i]} c{common[i, 0]} c{common[i, 1]}"
        for i in range(count)
    ]
    years = 1950 + (random.integers(0, 55, count)[series] + random.integers(0, 10, count))
    return (
        _texts("title", titles, known),
        _texts("author", [f"author {number}" for number in authors], known),
        _texts(
            "publisher", [f"house {n}" for n in of_genre * 3 + random.integers(0, 6, count)], known
        ),
        Column("year", "number", np.where(known, years, np.nan)),
    )


def _user_columns(mixture: Matrix, random: np.random.Generator) -> tuple[Column, ...]:
    """Age and location, which say a little about tastes, for most users."""
    count, genres = mixture.shape
    known = random.random(count) > 0.3
    age = 25 + 30 * (mixture @ np.linspace(0, 1, genres)) + random.normal(0, 10, count)
    towns = [f"town {n}, land {n % 30}" for n in random.integers(0, 400, count)]
    return (
        Column("age", "number", np.where(known, age.round(), np.nan)),
        _texts("location", towns, known),
    )


def _texts(name: str, values: list[Any], known: NDArray[np.bool_]) -> Column:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    column[~known] = None
    return Column(name, "text", column)


def _unit(matrix: Matrix) -> Matrix:
    unit: Matrix = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)
    return unit
