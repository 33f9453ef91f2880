"""What is shipped: the sdist, the wheel built from it, used far from the checkout."""

from __future__ import annotations

import email.message
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path

import psycopg
import pytest

import tterec
from tterec.database.connection import Database

REPOSITORY = Path(__file__).resolve().parents[2]
SHIPPED = ("tterec", "sql", "migrations", "tests", "README.md", "CHANGELOG.md", "LICENSE")


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command that must succeed, with nothing of the checkout in its environment."""
    strange = ("PYTHONPATH", "PYTHONHOME", "DATABASE_URL", "TTEREC_DATABASE_URL")
    environment = {name: value for name, value in os.environ.items() if name not in strange}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def script(environment: Path, name: str) -> Path:
    """A command of a virtual environment."""
    return environment / ("Scripts" if os.name == "nt" else "bin") / name


def make_environment(folder: Path) -> Path:
    """A virtual environment that sees this one's dependencies, but not its tterec.

    A directory named in a .pth file is searched for packages, its own .pth files (by which an
    editable install works) are not read.
    """
    run(sys.executable, "-m", "venv", folder, cwd=folder.parent)
    site = Path(run(script(folder, "python"), "-c", PURELIB, cwd=folder.parent).strip())
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    return folder


PURELIB = "import sysconfig; print(sysconfig.get_path('purelib'))"
WHERE = (
    "import tterec; from tterec.database.resources import directory;"
    " print(tterec.__file__, directory('sql'), directory('migrations'), sep='\\n')"
)


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and the wheel that was built from the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    # `--no-isolation`: the build needs no network.
    run(
        *(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder),
        cwd=REPOSITORY,
    )
    return folder


@pytest.fixture(scope="module")
def wheel(distributions: Path) -> Path:
    return next(distributions.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel in it."""
    environment = make_environment(tmp_path_factory.mktemp("elsewhere") / "venv")
    pip = (script(environment, "python"), "-m", "pip", "--disable-pip-version-check", "install")
    run(*pip, "--no-index", "--no-deps", wheel, cwd=environment)
    return environment


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> email.message.Message:
    with zipfile.ZipFile(wheel) as archive:
        name = next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


def test_the_wheel_holds_the_package_its_sql_and_migrations_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
    assert {name.split("/", maxsplit=1)[0] for name in names} == {
        "tterec",
        f"tterec-{tterec.__version__}.dist-info",
    }
    for folder in ("sql", "migrations"):
        files = [f for f in (REPOSITORY / folder).rglob("*") if f.suffix in (".sql", ".py")]
        assert files
        for file in files:
            assert f"tterec/{file.relative_to(REPOSITORY).as_posix()}" in names
    assert "tterec/py.typed" in names
    assert not any("__pycache__" in name for name in names)


def test_the_sdist_holds_what_its_tests_need(distributions: Path) -> None:
    with tarfile.open(next(distributions.glob("*.tar.gz"))) as archive:
        names = {Path(*Path(name).parts[1:]).as_posix() for name in archive.getnames()}
    assert {"pyproject.toml", "tests/conftest.py", "tests/acceptance/test_wheel.py"} <= names
    for name in SHIPPED:
        assert any(entry == name or entry.startswith(f"{name}/") for entry in names), name


def test_the_metadata_says_what_is_promised(metadata: email.message.Message) -> None:
    assert metadata["Version"] == tterec.__version__
    assert metadata["Requires-Python"] == ">=3.11"
    assert metadata["License-Expression"] == "MIT"
    classifiers = metadata.get_all("Classifier", [])
    for minor in range(11, 15):
        assert f"Programming Language :: Python :: 3.{minor}" in classifiers
    requirements = metadata.get_all("Requires-Dist", [])
    assert "torch<2.14,>=2.6" in requirements
    assert metadata["Description-Content-Type"] == "text/markdown"


def test_the_wheel_works_far_from_the_checkout(
    installed: Path, empty_database: Database, tmp_path: Path
) -> None:
    python, command = script(installed, "python"), script(installed, "tterec")
    for place in run(python, "-c", WHERE, cwd=tmp_path).splitlines():
        assert Path(place).is_relative_to(installed)
    to_it = ("--database-url", empty_database.url)
    run(command, *to_it, "db", "upgrade", cwd=tmp_path)
    run(command, *to_it, "db", "check", cwd=tmp_path)
    with psycopg.connect(empty_database.url) as connection:
        connection.execute("INSERT INTO tterec.users (user_id) VALUES (1)")
        connection.execute("INSERT INTO tterec.books (book_id, isbn, title) VALUES (7, 'x', 'X')")
        connection.execute("INSERT INTO tterec.ratings (user_id, book_id, rating) VALUES (1, 7, 9)")
    with psycopg.connect(empty_database.url) as connection:
        rows = connection.execute("SELECT isbn, source FROM tterec.popular_books(3)").fetchall()
    assert rows == [("x", "popular")]
    assert "X" in run(command, *to_it, "recommend", "99", cwd=tmp_path)


def test_an_editable_install_sees_an_edit(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in (*SHIPPED, "pyproject.toml"):
        if (REPOSITORY / name).is_dir():
            shutil.copytree(
                REPOSITORY / name, source / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            source.mkdir(exist_ok=True)
            shutil.copy(REPOSITORY / name, source / name)
    environment = make_environment(tmp_path / "venv")
    python = script(environment, "python")
    run(
        *(python, "-m", "pip", "--disable-pip-version-check", "install", "--no-index", "--no-deps"),
        *("--no-build-isolation", "-e", source),
        cwd=tmp_path,
    )
    assert run(python, "-c", WHERE, cwd=tmp_path).splitlines() == [
        str(source / "tterec" / "__init__.py"),
        str(source / "sql"),
        str(source / "migrations"),
    ]
    edited = source / "sql" / "training" / "items.sql"
    edited.write_text("SELECT book_id AS item_id, isbn FROM tterec.books\n", encoding="utf-8")
    code = "from tterec.store.sources import default_queries; print(default_queries().items)"
    assert run(python, "-c", code, cwd=tmp_path).strip() == edited.read_text().strip()
