"""Small generated worlds to train on, and lists as a database would make them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tterec.records import UNRATED_BUCKET, Column, FeatureTable, Interactions, TrainedVectors


@dataclass(frozen=True)
class World:
    """Interactions with their tables, and interactions that were kept back."""

    interactions: Interactions
    users: FeatureTable
    items: FeatureTable
    held_out: Interactions


def texts(values: list[str | None]) -> np.ndarray:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def interactions_of(
    users: np.ndarray, items: np.ndarray, ratings: np.ndarray | None = None
) -> Interactions:
    unrated = np.full(len(users), np.nan)
    given = unrated if ratings is None else ratings
    return Interactions(
        users.astype(np.int64), items.astype(np.int64), given.astype(np.float32), unrated
    )


def planted_tastes(users: int = 400, items: int = 240, genres: int = 6, each: int = 20) -> World:
    """Users who read mostly one genre, like it better, and differ in how kindly they rate."""
    rng = np.random.default_rng(7)
    genre = np.arange(items) % genres
    popularity = 1 / (1 + np.arange(items) // genres) ** 0.7
    rows = []
    for user in range(users):
        loved = genre == user % genres
        chances = popularity * np.where(loved, 8.0, 1.0)
        kind = rng.normal(0, 0.8)
        for item in rng.choice(items, each, replace=False, p=chances / chances.sum()):
            rating = 5 + kind + 3 * loved[item] + rng.normal(0, 0.7)
            rows.append((user, item, np.clip(np.round(rating), 0, 10)))
    table = np.array(rows)
    kept_back = rng.random(len(table)) < 0.2
    return World(
        interactions=interactions_of(*table[~kept_back].T),
        users=FeatureTable(
            np.arange(users), (Column("age", "number", np.arange(users) % 50 + 9.0),)
        ),
        items=FeatureTable(
            np.arange(items),
            (Column("genre", "text", texts([f"genre {number}" for number in genre])),),
        ),
        held_out=interactions_of(*table[kept_back].T),
    )


def planted_series(series: int = 25, readers: int = 40) -> World:
    """Series of four volumes each, among other books. Readers begin with volume 1; a third read
    on to the end, the others stop after a volume. Held out: volume 4 of those who have read 3."""
    rng = np.random.default_rng(3)
    others = 300
    chances = 1 / (10 + np.arange(others))
    rows, missing = [], []
    for user in range(series * readers):
        first = 4 * (user % series)
        read = rng.choice([1, 2, 3, 4], p=[0.2, 0.2, 0.25, 0.35])
        rows += [(user, first + volume) for volume in range(read)]
        if read == 3:
            missing.append((user, first + 3))
        drawn = rng.choice(others, 4, replace=False, p=chances / chances.sum())
        rows += [(user, 4 * series + book) for book in drawn]
    titles = [f"Saga of the {n // 4} volume {n % 4 + 1}" for n in range(4 * series)]
    titles += [f"Story {n}" for n in range(others)]
    return World(
        interactions=interactions_of(*np.array(rows).T),
        users=FeatureTable(np.arange(series * readers)),
        items=FeatureTable(np.arange(len(titles)), (Column("title", "text", texts([*titles])),)),
        held_out=interactions_of(*np.array(missing).T),
    )


def planted_vectors(users: int = 600, items: int = 300, genres: int = 6, each: int = 12) -> World:
    """Users and items with an embedding computed elsewhere, by which alone their genre shows. The
    last 100 users have met nothing, the last 60 items nobody. User and item n are of genre
    n % genres. Held out: nothing."""
    rng = np.random.default_rng(11)
    tilts = rng.normal(size=(genres, 16))
    genre = np.arange(items) % genres
    rows = []
    for user in range(users - 100):
        chances = np.where(genre == user % genres, 8.0, 1.0)[: items - 60]
        drawn = rng.choice(items - 60, each, replace=False, p=chances / chances.sum())
        rows += [(user, item) for item in drawn]

    def table(n: int, name: str) -> FeatureTable:
        values = tilts[np.arange(n) % genres] + 0.3 * rng.normal(size=(n, 16))
        return FeatureTable(np.arange(n), (Column(name, "vector", values.astype(np.float32)),))

    return World(
        interactions=interactions_of(*np.array(rows).T),
        users=table(users, "about"),
        items=table(items, "title_embedding"),
        held_out=interactions_of(*np.empty((2, 0), dtype=np.int64)),
    )


def user_vector(vectors: TrainedVectors, known: Interactions, user: int) -> np.ndarray:
    """A user's vector from what is published, by the rule: float64 (d,)."""
    row = np.flatnonzero(vectors.user_ids == user)
    profile = vectors.profile_vectors[row[0]] if len(row) else vectors.default_profile
    history = np.flatnonzero(known.user_ids == user)
    ratings = known.ratings[history]
    buckets = [UNRATED_BUCKET if np.isnan(r) else int(np.floor(r + 0.5)) for r in ratings]
    rows = np.searchsorted(vectors.item_ids, known.item_ids[history])
    weighted = vectors.history_weights[buckets] @ vectors.history_vectors[rows].astype(float)
    vector: np.ndarray = profile + weighted / max(len(history), 1) ** 0.5
    return vector / np.linalg.norm(vector) if vectors.normalised else vector


def ranked(vectors: TrainedVectors, known: Interactions, user: int, k: int) -> list[int]:
    """The k best items that the user has not met."""
    scores = vectors.item_embeddings @ user_vector(vectors, known, user)
    met = known.item_ids[known.user_ids == user]
    scores[np.isin(vectors.item_ids, met)] = -np.inf
    return [int(item) for item in vectors.item_ids[np.argsort(-scores, kind="stable")[:k]]]
