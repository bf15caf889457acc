"""The shape of the code: where modules lie, no imports in a circle, unique class names."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent
TOPS = ("core", "tui", "themes")
LOOSE = {"core": 3, "tui": 2}
"""Modules that may lie directly in a top-level folder; all others belong to a folder of theirs."""

TWICE: Mapping[str, str] = {}
"""Class names that are defined more than once, and why each of them may be."""


def sources(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


def module_of(path: Path) -> str:
    """Import name of a file."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(("modeldeck", *parts))


def graph() -> dict[str, set[str]]:
    """What each module imports of the house, at any place and for type checkers as well."""
    trees = {module_of(path): ast.parse(path.read_text()) for path in sources(*TOPS)}
    found: dict[str, set[str]] = {}
    for module, tree in trees.items():
        names = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                for alias in node.names:
                    whole = f"{node.module}.{alias.name}"
                    names.add(whole if whole in trees else node.module)
            elif isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
        found[module] = (names & trees.keys()) - {module}
    return found


def circles(imports: Mapping[str, set[str]]) -> list[list[str]]:
    """Strongly connected components of more than one module (Tarjan's algorithm)."""
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(module: str) -> None:
        number[module] = low[module] = len(number)
        stack.append(module)
        for other in sorted(imports[module]):
            if other not in number:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], number[other])
        if low[module] == number[module]:
            at = stack.index(module)
            if len(stack) - at > 1:
                found.append(sorted(stack[at:]))
            del stack[at:]

    for module in imports:
        if module not in number:
            visit(module)
    return found


def test_a_circle_is_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [["b", "c"]]
    assert circles({"a": {"b"}, "b": set(), "c": {"a", "b"}}) == []


def test_modules_lie_in_folders_that_name_their_concern() -> None:
    for top, most in LOOSE.items():
        loose = {path.stem for path in (ROOT / top).glob("*.py")} - {"__init__"}
        assert len(loose) <= most, f"{top}: {sorted(loose)}"


def test_no_imports_run_in_a_circle() -> None:
    imports = graph()
    assert len(imports) > 200
    assert circles(imports) == []


def test_nothing_is_imported_by_the_name_of_its_folder() -> None:
    """Where the folders are on the path, `import core` works, and makes every module anew."""
    wrong = []
    for path in sources(*TOPS, "tests"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                continue
            if any(name.split(".")[0] in TOPS for name in names):
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert wrong == []


def test_a_class_name_means_one_thing() -> None:
    where = defaultdict(list)
    for path in sources(*TOPS):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef):
                where[node.name].append(f"{path.relative_to(ROOT)}:{node.lineno}")
    twice = {name: found for name, found in where.items() if len(found) > 1}
    unexplained = {name: found for name, found in twice.items() if name not in TWICE}
    assert unexplained == {}
    assert TWICE.keys() - twice.keys() == set(), "These are defined once by now: take them out."
    assert all(TWICE.values())


def test_tests_mirror_the_code() -> None:
    """A folder of unit tests belongs to a folder of the code, or is a topic inside one."""
    for top in ("core", "tui"):
        for path in (ROOT / "tests" / top).rglob("test_*.py"):
            folder = path.parent.relative_to(ROOT / "tests")
            mirrored = [(ROOT / each).is_dir() for each in (folder, folder.parent)]
            assert any(mirrored), f"{folder} is no folder of the code"
