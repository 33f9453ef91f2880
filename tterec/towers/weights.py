"""Tower weights as bytes: safetensors, which hold numbers and nothing that could run."""

from __future__ import annotations

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from tterec.errors import TterecError
from tterec.towers.model import Parameters, Shape, initial_shapes
from tterec.towers.ragged import Index

DAMAGED = "the stored tower weights of this generation are damaged; train again: tterec train"
_ITEMS = "items"
_HELD_OUT = "held_out"  # once a tensor; what it held must not be kept here


def save(parameters: Parameters, item_ids: Index) -> bytes:
    """Parameters, and the ids of the item_ids table's rows, as safetensors bytes."""
    tensors = {name: tensor.numpy() for name, tensor in parameters.items()}
    return save_tensors({**tensors, _ITEMS: item_ids})


def load(data: bytes) -> tuple[Parameters, Index]:
    """What `save` was given. Raises TterecError for anything but its bytes."""
    try:
        tensors = load_tensors(data)
        item_ids = tensors.pop(_ITEMS)
        tensors.pop(_HELD_OUT, None)
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise TterecError(DAMAGED) from error
    if item_ids.dtype != np.int64 or item_ids.ndim != 1 or np.any(item_ids[1:] <= item_ids[:-1]):
        raise TterecError(DAMAGED)
    if any(tensor.dtype != np.float32 for tensor in tensors.values()):
        raise TterecError(DAMAGED)
    # The arrays lie in read-only bytes; torch wants its own.
    parameters = {name: torch.from_numpy(tensor.copy()) for name, tensor in tensors.items()}
    return parameters, item_ids


def check(parameters: Parameters, shape: Shape) -> None:
    """Raise TterecError unless exactly the parameters of that shape are there, all finite."""
    expected = initial_shapes(shape)
    found = {name: tuple(tensor.shape) for name, tensor in parameters.items()}
    for name in expected.keys() | found.keys():
        if expected.get(name) != found.get(name):
            raise TterecError(
                f"tower weights {name} have shape {found.get(name, 'none')}, the generation's "
                f"features need {expected.get(name, 'none')}; train again: tterec train"
            )
    if not all(torch.isfinite(tensor).all() for tensor in parameters.values()):
        raise TterecError(DAMAGED)
