"""What the score of one book for one user is, and what it is the sum of."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tterec import assemble
from tterec.database.connection import Connection
from tterec.ranking import exact
from tterec.records import Contribution
from tterec.retrieval import evidence, pgvector
from tterec.retrieval import users as user_rows
from tterec.retrieval.live_models import LiveModel
from tterec.retrieval.users import History

_PROFILE = -1


@dataclass(frozen=True)
class Explained:
    """A score, to six decimals as lists have it, and its parts, the largest first."""

    score: float
    parts: list[Contribution]


def explain(
    connection: Connection, user_id: int | None, history: History, item_id: int
) -> Explained | None:
    """The score of an item for a user with this history; None where one of them has no vector."""
    model = pgvector.live_model(connection)
    embedding = None if model is None else pgvector.item_vector(connection, model, item_id)
    if model is None or embedding is None:
        return None
    items, ratings = history.item_ids[: model.max_history], history.ratings[: model.max_history]
    vectors = pgvector.history_vectors(connection, model, items) if len(items) else {}
    known = np.array([item in vectors for item in items.tolist()], dtype=bool)
    matrix = np.array([vectors[item] for item in items[known].tolist()]).reshape(-1, model.dim)
    profile = None
    if user_id is not None:
        profile = user_rows.profiles(connection, model, [user_id]).get(user_id)
    vector, source = assemble.embed(model, profile, matrix, ratings[known])
    if vector is None:
        return None
    similarity = exact.exact_scores(vector, embedding[None, :])
    shares = exact.similarity_shares(
        model.default_profile if profile is None else profile,
        matrix,
        ratings[known],
        model.history_weights,
        normalised=model.normalised,
        embedding=embedding,
    )
    score, owners, amounts = similarity, np.append(items[known], _PROFILE), shares
    if model.ranking is not None and source == "history":
        weight = model.ranking.similarity_weight
        speakers, spoken = _spoken(connection, model, item_id, items, ratings)
        score = exact.mixed_scores(similarity, np.array([spoken.sum()]), weight)
        owners = np.append(owners, speakers)
        amounts = np.append(weight * shares, spoken)
    given = dict(zip(items[::-1].tolist(), ratings[::-1].tolist(), strict=True))
    return Explained(float(score[0]), _parts(connection, owners, amounts, given))


def _spoken(
    connection: Connection,
    model: LiveModel,
    item_id: int,
    items: NDArray[np.int64],
    ratings: NDArray[np.float32],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Items met, some more than once, and what each of them says for the item."""
    assert model.ranking is not None
    voices = exact.voices(ratings, model.ranking.unrated_weight)
    # An item that a shop's query returns twice speaks once, with what tells most.
    loudness = dict(zip(items[::-1].tolist(), voices[::-1].tolist(), strict=True))
    met, places, traits = evidence.met_places(connection, model, items)
    loud = np.array([loudness[item] for item in met.tolist()], dtype=np.float64)
    said = evidence.of_item(connection, model, item_id)
    rows, amounts = exact.spoken_shares(places, traits, loud, said.positions, said.values)
    return met[rows], amounts


def _parts(
    connection: Connection,
    owners: NDArray[np.int64],
    amounts: NDArray[np.float64],
    ratings: dict[int, float],
) -> list[Contribution]:
    """One part an owner, the largest first; equal ones by id, the profile last."""
    distinct, places = np.unique(owners, return_inverse=True)
    sums = np.bincount(places, weights=amounts, minlength=len(distinct))
    last = np.where(distinct == _PROFILE, np.iinfo(np.int64).max, distinct)
    order = np.lexsort((last, -sums))
    shown = pgvector.listed(connection, distinct[distinct != _PROFILE])
    parts = []
    for rank, row in enumerate(order.tolist(), start=1):
        item_id, amount = int(distinct[row]), float(sums[row])
        if item_id == _PROFILE:
            parts.append(Contribution(rank, None, None, None, None, amount))
            continue
        rating = ratings[item_id]
        isbn, title = shown.get(item_id, (None, None))
        known = None if np.isnan(rating) else rating
        parts.append(Contribution(rank, item_id, isbn, title, known, amount))
    return parts
