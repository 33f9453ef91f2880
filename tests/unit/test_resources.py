"""Where `sql/` and `migrations/` are found, and that an edit of them is seen."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tterec.database.resources import directory

REPOSITORY = Path(__file__).resolve().parents[2]

USERS_QUERY = "from tterec.store.sources import default_queries; print(default_queries().users)"
PLACES = (
    "from tterec.database.resources import directory;"
    " print(directory('sql'), directory('migrations'), sep='\\n')"
)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A bare checkout: the files, nothing installed."""
    folder = tmp_path / "checkout"
    for name in ("tterec", "sql", "migrations"):
        shutil.copytree(
            REPOSITORY / name, folder / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    return folder


def run(code: str, folder: Path, *path: Path) -> str:
    """What Python prints that finds tterec in `folder`, with further directories to import from."""
    added = "".join(f"sys.path.append({str(entry)!r}); " for entry in path)
    return subprocess.run(
        [sys.executable, "-c", f"import sys; {added}{code}"],
        cwd=folder,
        check=True,
        capture_output=True,
        encoding="utf-8",
    ).stdout


@pytest.mark.parametrize("name", ["sql", "migrations"])
def test_the_repository_of_an_editable_install_is_used(name: str) -> None:
    assert directory(name) == REPOSITORY / name


def test_a_bare_checkout_uses_its_own_files(checkout: Path) -> None:
    expected = [str(checkout / "sql"), str(checkout / "migrations")]
    assert run(PLACES, checkout).splitlines() == expected


def test_an_edit_of_a_training_query_is_seen_at_once(checkout: Path) -> None:
    assert "age" in run(USERS_QUERY, checkout)
    query = checkout / "sql" / "training" / "users.sql"
    query.write_text("SELECT user_id, 'é' AS mark FROM tterec.users;\n", encoding="utf-8")
    assert run(USERS_QUERY, checkout).strip() == "SELECT user_id, 'é' AS mark FROM tterec.users"


def test_a_stale_copy_elsewhere_on_the_path_is_not_used(checkout: Path, tmp_path: Path) -> None:
    stale = tmp_path / "site-packages"
    shutil.copytree(checkout / "sql", stale / "sql")
    shutil.copytree(checkout / "sql", stale / "tterec" / "sql")
    assert run(PLACES, checkout, stale).splitlines()[0] == str(checkout / "sql")


def test_a_package_that_holds_them_uses_those(checkout: Path) -> None:
    for name in ("sql", "migrations"):
        shutil.move(checkout / name, checkout / "tterec" / name)
    expected = [str(checkout / "tterec" / "sql"), str(checkout / "tterec" / "migrations")]
    assert run(PLACES, checkout).splitlines() == expected
