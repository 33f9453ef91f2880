"""Two-tower recommendations that live in your own Postgres."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "Contribution",
    "Filters",
    "Recommendation",
    "Recommender",
    "Rules",
    "TterecError",
    "__version__",
]

if TYPE_CHECKING:
    from tterec.errors import TterecError
    from tterec.filters import Filters
    from tterec.ranking.rules import Rules
    from tterec.recommender import Recommender
    from tterec.records import Contribution, Recommendation


def __getattr__(name: str) -> Any:
    """Import the public names on first use, so that `import tterec` costs next to nothing."""
    if name == "Recommender":
        from tterec.recommender import Recommender

        return Recommender
    if name == "Recommendation":
        from tterec.records import Recommendation

        return Recommendation
    if name == "Contribution":
        from tterec.records import Contribution

        return Contribution
    if name == "Filters":
        from tterec.filters import Filters

        return Filters
    if name == "Rules":
        from tterec.ranking.rules import Rules

        return Rules
    if name == "TterecError":
        from tterec.errors import TterecError

        return TterecError
    raise AttributeError(f"module 'tterec' has no attribute {name!r}")
