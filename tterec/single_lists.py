"""One list at a time: from a history, or a book, by candidates and exact scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tterec import assemble
from tterec.database.connection import Connection
from tterec.ranking import exact
from tterec.records import Recommendation
from tterec.retrieval import evidence, pgvector
from tterec.retrieval import users as user_rows
from tterec.retrieval.choice import Indexes
from tterec.retrieval.pgvector import Among
from tterec.retrieval.users import History
from tterec.timings import Laps

if TYPE_CHECKING:
    from tterec.ranking.rules import Rules


def near(
    connection: Connection, indexes: Indexes, item_id: int, k: int, among: Among | None
) -> list[Recommendation]:
    laps = Laps("similar")
    excluded = np.array([item_id], dtype=np.int64)
    model = pgvector.live_model(connection)
    vector = None if model is None else pgvector.item_vector(connection, model, item_id)
    if model is None or vector is None:
        return pgvector.popular(connection, model, k, excluded, among)
    index = indexes.of(connection, model, among)
    laps.lap("item vector")
    nearest = index.candidates(vector, k, excluded)
    laps.lap("candidates")
    found = assemble.ranked(nearest, vector, k, "history")
    laps.lap("exact scores and ranking")
    laps.log()
    return found


def for_history(
    connection: Connection,
    user_id: int | None,
    history: History,
    k: int,
    excluded: NDArray[np.int64],
    *,
    indexes: Indexes,
    ranker: bool = True,
    among: Among | None = None,
) -> list[Recommendation]:
    laps = Laps("recommend")
    model = pgvector.live_model(connection)
    if model is None:
        return pgvector.popular(connection, None, k, excluded, among)
    items = history.item_ids[: model.max_history]
    found = pgvector.history_vectors(connection, model, items) if len(items) else {}
    known = [place for place, item_id in enumerate(items.tolist()) if item_id in found]
    profile = None
    if user_id is not None:
        profile = user_rows.profiles(connection, model, [user_id]).get(user_id)
    vectors = np.array([found[items[place]] for place in known]).reshape(-1, model.dim)
    vector, source = assemble.embed(model, profile, vectors, history.ratings[known])
    if vector is None:
        return pgvector.popular(connection, model, k, excluded, among)
    index = indexes.of(connection, model, among)
    laps.lap("user vector")
    if not ranker or model.ranking is None or source != "history":
        nearest = index.candidates(vector, k, excluded)
        laps.lap("candidates")
        found_list = assemble.ranked(nearest, vector, k, source)
        laps.lap("exact scores and ranking")
        laps.log()
        return found_list
    wanted = max(k, model.ranking.candidates)
    voices = exact.voices(history.ratings[: len(items)], model.ranking.unrated_weight)
    near_by = index.candidates(vector, wanted, excluded)
    laps.lap("candidates")
    best = exact.rank(near_by.item_ids, exact.exact_scores(vector, near_by.vectors), wanted)
    found_all = evidence.considered(
        connection,
        model,
        near=near_by.item_ids[best],
        met=items,
        voices=voices,
        excluded=excluded,
        among=among,
    )
    laps.lap("evidence")
    candidates, rows = found_all.candidates, found_all.evidence
    similarities = exact.exact_scores(vector, candidates.vectors)
    laps.lap("exact scores")
    speaking = exact.loudest(found_all.speaking, found_all.voices)
    spoken = exact.evidence_sums(rows.offsets, rows.positions, rows.values, *speaking)
    scores = exact.mixed_scores(similarities, spoken, model.ranking.similarity_weight)
    found_list = assemble.listed(candidates, scores, similarities, k, source)
    laps.lap("ranking")
    laps.log()
    return found_list


def under_rules(
    connection: Connection,
    rules: Rules | None,
    k: int,
    user_id: int | None,
    best: Callable[[int], list[Recommendation]],
) -> list[Recommendation]:
    """The k of a list under the rules; `best(n)` is its first n without."""
    if rules is None or not rules.on:
        return best(k)
    from tterec import listing

    spelled = listing.spelled(connection, rules)
    model = pgvector.live_model(connection)

    def find(n: int) -> tuple[list[Recommendation], listing.Facts]:
        found = best(n)
        return found, listing.read_facts(connection, model, spelled, found)

    return listing.under_rules(spelled, k, user_id or 0, find)
