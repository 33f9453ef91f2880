"""Users whose lists show how good a candidate index is."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from tterec import assemble
from tterec.database.connection import Connection
from tterec.retrieval import pgvector
from tterec.retrieval import users as user_rows
from tterec.retrieval.live_models import LiveModel
from tterec.store.recall import Probe

_USERS_A_BATCH = 256


def drawn(connection: Connection, model: LiveModel, seed: int) -> Iterator[Probe]:
    """The users with a history, in an order drawn by lot, with their vectors of now and all that
    they have met."""
    everybody = user_rows.all_users(connection)
    order = np.random.default_rng(seed).permutation(len(everybody)).tolist()
    for start in range(0, len(order), _USERS_A_BATCH):
        names = [everybody[place] for place in order[start : start + _USERS_A_BATCH]]
        ids = [i for i in user_rows.user_ids(connection, names) if i is not None]
        histories = user_rows.histories(connection, ids)
        profiles = user_rows.profiles(connection, model, [*histories])
        for user, history in histories.items():
            items = history.item_ids[: model.max_history]
            found = pgvector.history_vectors(connection, model, items)
            known = [place for place, item in enumerate(items.tolist()) if item in found]
            vectors = np.array([found[items[place]] for place in known]).reshape(-1, model.dim)
            vector, source = assemble.embed(
                model, profiles.get(user), vectors, history.ratings[known]
            )
            if vector is not None and source == "history":
                yield Probe(vector, history.item_ids)
