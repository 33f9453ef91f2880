"""Which settings `tterec tune` searches, and how far from their defaults."""

from __future__ import annotations

from collections.abc import Collection

from tterec.config import TrainingConfig
from tterec.errors import ConfigError
from tterec.store.trials import Choice, Space, Span

_DEFAULT = TrainingConfig()


def _times(name: str, low: float, high: float) -> Span:
    """From `low` times the default to `high` times the default, evenly in the logarithm."""
    default = getattr(_DEFAULT, name)
    return Span(name, default * low, default * high, log=True)


def _multiples(name: str, *factors: float) -> Choice:
    return Choice(name, tuple(int(getattr(_DEFAULT, name) * factor) for factor in factors))


# The docstrings of TrainingConfig have what was measured at both sides of the defaults.
_SEARCHED = {
    one.name: one
    for one in (
        _times("learning_rate", 1 / 4, 4),
        _times("weight_decay", 1 / 10, 10),
        _times("temperature", 1 / 3, 3),
        _times("margin", 1 / 4, 4),
        _times("gamma", 1 / 10, 10),
        Span("uniform_negatives", 0.0, 1.5),
        Span("id_dropout", 0.0, 0.6),
        Span("id_shrinkage", 0.0, 5.0),
        # Larger vectors make a larger index and slower lists, which no figure here would show.
        _multiples("dim", 1 / 2, 1, 2),
        _multiples("batch_size", 1 / 4, 1 / 2, 1, 2),
        Choice("regulariser", ("l1", "l2")),
    )
}
_OF_ALL = ("learning_rate", "dim", "batch_size", "id_shrinkage")
_OF_OBJECTIVE = {
    "softmax": ("weight_decay", "id_dropout", "temperature", "uniform_negatives"),
    "full-softmax": ("weight_decay", "id_dropout", "temperature"),
    "triplet": ("weight_decay", "id_dropout", "margin", "uniform_negatives"),
    "bpr": ("weight_decay", "id_dropout", "temperature", "uniform_negatives"),
    "mse": ("gamma", "regulariser"),
}


def search_space(objective: str, fixed: Collection[str] = ()) -> Space:
    """What is searched for an objective, without the settings named in `fixed`.

    Raises ConfigError where nothing is left.
    """
    names = (*_OF_ALL, *_OF_OBJECTIVE[objective])
    space = [_SEARCHED[name] for name in names if name not in fixed]
    if not space:
        raise ConfigError(
            f"all that could be searched is fixed by your settings: {', '.join(names)}; "
            "leave some of them out"
        )
    return space
