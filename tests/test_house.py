"""The rules of the house that no other tool holds; `docs/architecture.md` says what they are for.

Layers are held by import-linter, style and docstrings by ruff, types by mypy. Here is the rest:
what the core may import and call, where each given library lives, and that README's code runs.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent
PACKAGE = PROJECT / "src" / "lbcore"
SOURCES = sorted(PACKAGE.rglob("*.py"))
# The modules of the package itself, and of those folders in it that hold a part of the core.
FOLDERS = ("annotations", "announcement", "assignment", "proxy", "routing")
CORE = sorted([*PACKAGE.glob("*.py"), *(path for folder in FOLDERS for path in PACKAGE.glob(f"{folder}/*.py"))])

# What `import lbcore` may load besides the standard library (attr is attrs under its older name).
THIRD_PARTY_OF_THE_CORE = {"attr", "attrs", "immutables", "netaddr"}

# Tools for data. Anything else (time, random, os, logging, asyncio, ...) is a shell's business.
STANDARD_LIBRARY_OF_THE_CORE = {
    "__future__", "abc", "base64", "bisect", "collections", "enum", "functools", "difflib", "hashlib", "heapq",
    "itertools", "math", "operator", "re", "string", "struct", "types", "typing",
}  # fmt: skip

CALLS_THAT_TOUCH_THE_WORLD = {"open", "print", "input", "exec", "eval", "breakpoint", "__import__"}

# Each given library is wrapped once, so that what it lacks (types, frozen values, a quick start)
# stays behind one door.
HOMES = {
    "hypothesis": ("testing/",),
    "netaddr": ("addresses.py",),
    "pyroute2": ("backends/netlink.py", "lab/"),
    "scapy": ("backends/scapy.py", "backends/probing.py"),  # a way to answer, and a way to ask
}


def name_of(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def imports_of(path: Path) -> Iterator[str]:
    """The top-level names of everything a file imports, also inside functions and TYPE_CHECKING."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def assigned_names(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
        yield from (target.id for target in targets if isinstance(target, ast.Name))


def python_blocks(text: str) -> list[tuple[int, str]]:
    """The fenced python blocks of a Markdown text, with the line each begins on."""
    found = re.finditer(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    return [(text.count("\n", 0, match.start()) + 2, match[1]) for match in found]


def test_importing_lbcore_loads_attrs_netaddr_and_the_map_only() -> None:
    script = (
        "import sys; before = set(sys.modules); import lbcore; print(*{m.partition('.')[0] for m in set(sys.modules)"
        " - before})"
    )
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split()) - sys.stdlib_module_names
    assert "lbcore" in loaded
    assert set() == loaded - THIRD_PARTY_OF_THE_CORE - {"lbcore"}


@pytest.mark.parametrize("path", CORE, ids=name_of)
def test_the_core_imports_tools_for_data_only(path: Path) -> None:
    allowed = STANDARD_LIBRARY_OF_THE_CORE | THIRD_PARTY_OF_THE_CORE | {"lbcore"}
    assert set() == set(imports_of(path)) - allowed


@pytest.mark.parametrize("path", CORE, ids=name_of)
def test_the_core_awaits_nothing_and_touches_nothing(path: Path) -> None:
    nodes = list(ast.walk(tree_of(path)))
    awaits = [node.lineno for node in nodes if isinstance(node, ast.AsyncFunctionDef | ast.Await)]
    calls = [node.func for node in nodes if isinstance(node, ast.Call)]
    touches = [f.lineno for f in calls if isinstance(f, ast.Name) and f.id in CALLS_THAT_TOUCH_THE_WORLD]
    assert ([], []) == (awaits, touches)


@pytest.mark.parametrize("library", HOMES)
def test_a_given_library_is_known_in_its_home_only(library: str) -> None:
    users = [name_of(path) for path in SOURCES if library in imports_of(path)]
    assert [] == [user for user in users if not user.startswith(HOMES[library])]


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_a_public_module_says_what_it_offers(path: Path) -> None:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    private = any(part.startswith("_") for part in parts if part != "__init__")
    nothing_but_a_docstring = len(tree_of(path).body) <= 1
    assert private or nothing_but_a_docstring or "__all__" in assigned_names(tree_of(path))


@pytest.mark.parametrize(
    "path",
    [*SOURCES, *sorted((PROJECT / "tests").rglob("*.py")), *sorted((PROJECT / "benchmarks").rglob("*.py"))],
    ids=lambda path: path.relative_to(PROJECT).as_posix(),
)
def test_a_module_begins_by_naming_its_law(path: Path) -> None:
    assert ast.get_docstring(tree_of(path))


def test_readme_shows_the_library_at_work_and_its_code_runs() -> None:
    readme = PROJECT / "README.md"
    blocks = python_blocks(readme.read_text(encoding="utf-8"))
    assert [] != blocks
    for line, code in blocks:
        # Blank lines first, so that a traceback names the line of README.md.
        exec(compile("\n" * (line - 1) + code, str(readme), "exec"), {"__name__": "readme"})


def test_every_target_of_the_makefile_is_made_and_listed() -> None:
    makefile = (PROJECT / "Makefile").read_text("utf-8")
    (line,) = re.findall(r"^\.PHONY: (.*)$", makefile, flags=re.MULTILINE)
    targets = re.findall(r"^([a-z-]+):.*## \S", makefile, flags=re.MULTILINE)
    assert sorted(set(line.split()) - {"python", "system", "newer"}) == sorted(targets)


def test_every_dependency_is_pinned() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    groups = [project["project"]["dependencies"], *project["project"]["optional-dependencies"].values()]
    asked = [text for group in [*groups, *project["dependency-groups"].values()] for text in group]
    names = {normal(re.split(r"[^\w.-]", text)[0]) for text in asked} - {"lbcore"}
    pinned = (PROJECT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert set() == names - {normal(line.partition("==")[0]) for line in pinned}


def normal(name: str) -> str:
    """A distribution's name as indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()
