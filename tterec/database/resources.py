"""Where `migrations/` and `sql/` are: in the wheel inside the package, else beside it."""

from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent


def directory(name: str) -> Path:
    """The directory `migrations` or `sql`.

    Only a wheel has them inside the package; a checkout and an editable install have them
    beside it, where they are edited. `sys.path` is never searched: a stale copy may lie there.
    """
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / name


@cache
def sql(path: str) -> str:
    """The text of a file below `sql/`, read once a process: `sql("retrieval/user.sql")`."""
    return (directory("sql") / path).read_text(encoding="utf-8")
