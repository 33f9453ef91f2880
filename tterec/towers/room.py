"""Whether the towers fit into memory: unlike interactions they cannot lie in files."""

from __future__ import annotations

from tterec import memory
from tterec.errors import TrainingError
from tterec.towers.model import Shape

FLOAT = 4
COPIES = 2
"""Of all parameters: those that learn, and the best epoch's."""
ITEM_VECTORS = 3
"""Of each item in the end: its own part, and the two vectors that are published."""


def check_room(shape: Shape) -> None:
    """Raise TrainingError where the towers take more memory than is free."""
    rows = shape.items + shape.item_tokens + shape.user_tokens
    needed = FLOAT * shape.dim * (COPIES * rows + ITEM_VECTORS * shape.items)
    free = memory.free_bytes()
    if needed > free:
        raise TrainingError(
            f"the towers of {shape.items:,} items and {shape.item_tokens + shape.user_tokens:,} "
            f"values and words of features take {needed / 2**30:.1f} GB with {shape.dim} "
            f"dimensions, and {free / 2**30:.1f} GB of memory are free; train with fewer: --dim "
            f"{max(shape.dim // 4, 2)}, leave columns out of the items and users queries, or train "
            "on a larger machine"
        )
