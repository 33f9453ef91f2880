"""Trained towers: they embed items and users, those of training and new ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from tterec.config import TrainingConfig
from tterec.encoding import token_key
from tterec.errors import TterecError
from tterec.records import FeatureTable, ProfileColumn, TrainedVectors
from tterec.towers import model, weights
from tterec.towers.columns import dense_width, token_count
from tterec.towers.features import Encoded, Features
from tterec.towers.histories import rows_of
from tterec.towers.ragged import Index

CHUNK = 16_384
"""Rows embedded at a time: bounds the memory of the float64 copies."""

Vectors = NDArray[np.float32]


class ItemVectors(NamedTuple):
    """Items' two outputs, float32 (n, d) each."""

    embeddings: Vectors
    histories: Vectors


@dataclass(frozen=True)
class Towers:
    """Both towers' parameters and features. item_ids: int64, the items of item_ids' rows.

    parameters["item_ids"] holds the embeddings of these items alone, gates applied.
    """

    parameters: model.Parameters
    item_ids: Index
    item_features: Features
    user_features: Features
    config: TrainingConfig

    @classmethod
    def load(cls, data: bytes, features: dict[str, Any], config: TrainingConfig) -> Towers:
        """The towers of a generation. Raises TterecError for damaged bytes."""
        try:
            items, users = features["items"], features["users"]
        except (TypeError, KeyError) as error:
            raise TterecError(weights.DAMAGED) from error
        item_features, user_features = Features.from_json(items), Features.from_json(users)
        parameters, item_ids = weights.load(data)
        shape = model.Shape(
            items=len(item_ids),
            item_tokens=item_features.token_count,
            item_dense=item_features.dense_width,
            user_tokens=user_features.token_count,
            user_dense=user_features.dense_width,
            dim=config.dim,
        )
        weights.check(parameters, shape)
        return cls(parameters, item_ids, item_features, user_features, config)

    def save(self) -> bytes:
        """The parameters as safetensors bytes."""
        return weights.save(self.parameters, self.item_ids)

    @property
    def features(self) -> dict[str, Any]:
        """What `load` needs beside the bytes; JSON-able."""
        return {
            "items": list(self.item_features.columns),
            "users": list(self.user_features.columns),
        }

    @property
    def normalised(self) -> bool:
        """Whether item embeddings have norm 1 and user vectors are to be divided by theirs."""
        return self.config.objective != "mse"

    @property
    def default_profile(self) -> Vectors:
        """The profile part of a user of whom nothing is known: float32 (d,)."""
        profile: Vectors = self.parameters["user_base"].numpy().copy()
        return profile

    @property
    def history_weights(self) -> NDArray[np.float64]:
        """By rating bucket 0-10 and, last, unrated: float64 (12,)."""
        by_bucket: NDArray[np.float64] = self.parameters["history_weights"].double().numpy().copy()
        return by_bucket

    def embed_items(self, table: FeatureTable) -> ItemVectors:
        """Item embeddings and history vectors; an item unknown to training by content alone."""
        return self.embed_encoded_items(table.ids, self.item_features.encode(table))

    def embed_encoded_items(self, ids: Index, encoded: Encoded) -> ItemVectors:
        """As embed_items, of a table that is encoded already."""
        embeddings = np.empty((len(ids), self.config.dim), dtype=np.float32)
        histories = np.empty_like(embeddings)
        own_rows = rows_of(self.item_ids, ids)
        shared = {name: self.parameters[name].double() for name in _SHARED}
        for part, cores in self._sums(encoded, "item"):
            # In float64, because float32 products differ in the last digit from row to row of
            # a matrix, and identical books must have identical vectors.
            own = own_rows[part]
            rows = torch.from_numpy(own[own >= 0])
            cores[torch.from_numpy(own >= 0)] += self.parameters["item_ids"][rows].double()
            vectors = cores + shared["item_base"]
            embeddings[part] = (model.unit(vectors) if self.normalised else vectors).numpy()
            histories[part] = model.history_vectors(cores, shared).numpy()
        return ItemVectors(embeddings, histories)

    def embed_users(self, table: FeatureTable) -> Vectors:
        """The profile part of users' vectors: float32 (n, d)."""
        return self.embed_encoded_users(self.user_features.encode(table))

    def embed_encoded_users(self, encoded: Encoded) -> Vectors:
        """As embed_users, of a table that is encoded already."""
        profiles = np.empty((len(encoded), self.config.dim), dtype=np.float32)
        base = self.parameters["user_base"].double()
        for part, sums in self._sums(encoded, "user"):
            profiles[part] = (sums + base).numpy()
        return profiles

    def publish(
        self, items: FeatureTable, encoded_items: Encoded, users: FeatureTable, encoded: Encoded
    ) -> TrainedVectors:
        """All that a generation's tables hold."""
        vectors = self.embed_encoded_items(items.ids, encoded_items)
        return TrainedVectors(
            item_ids=items.ids,
            item_embeddings=vectors.embeddings,
            history_vectors=vectors.histories,
            user_ids=users.ids,
            profile_vectors=self.embed_encoded_users(encoded),
            default_profile=self.default_profile,
            history_weights=self.history_weights,
            normalised=self.normalised,
            max_history=self.config.max_history,
            profile_columns=tuple(self._profile_columns()),
        )

    def _profile_columns(self) -> Iterator[ProfileColumn]:
        """The user tower's columns, with their rows of its parameters."""
        tokens, dense = (self.parameters[name].numpy() for name in ("user_tokens", "user_dense"))
        token, row = 0, 0
        for fitted in self.user_features.columns:
            tokens_end, rows_end = token + token_count(fitted), row + dense_width(fitted)
            is_dense = "mean" in fitted
            values, buckets = fitted.get("values", ()), int(fitted.get("buckets", 0))
            yield ProfileColumn(
                name=fitted["name"],
                kind=fitted["kind"],
                mean=np.array(fitted["mean"]) if is_dense else None,
                scale=np.array(fitted["scale"]) if is_dense else None,
                weights=dense[row:rows_end].copy() if is_dense else None,
                buckets=buckets,
                tokens=[*map(token_key, values), *map(str, range(buckets))],
                embeddings=tokens[token:tokens_end].copy(),
            )
            token, row = tokens_end, rows_end

    def _sums(self, encoded: Encoded, side: str) -> Iterator[tuple[slice, torch.Tensor]]:
        """Feature sums in float64, chunk by chunk: the rows, and (rows, d)."""
        into = self.parameters[f"{side}_dense"].double()
        for start in range(0, len(encoded), CHUNK):
            part = slice(start, min(start + CHUNK, len(encoded)))
            chunk = encoded.rows(np.arange(part.start, part.stop))
            token_rows, tokens = np.unique(chunk.tokens.ids, return_inverse=True)
            bags = model.Bags(
                tokens=torch.from_numpy(tokens),
                offsets=torch.from_numpy(chunk.tokens.offsets[:-1]),
                weights=torch.from_numpy(chunk.tokens.weights).double(),
                dense=torch.from_numpy(chunk.dense).double(),
            )
            embeddings = self.parameters[f"{side}_tokens"][torch.from_numpy(token_rows)].double()
            yield part, model.feature_sums(bags, embeddings, into)


_SHARED = ("item_base", "history_map", "history_base")
