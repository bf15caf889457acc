"""The shape of the code: where modules lie, no import cycles, unique class names, plain words."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent
TOPS = ("core", "tui", "themes")
LOOSE = {"core": 3, "tui": 2}
"""Modules that may lie directly in a top-level folder; all others belong to a folder of theirs."""

TWICE: Mapping[str, str] = {}
"""Class names that are defined more than once, and why each of them may be."""

MOST_LINES = 440
"""Lines of a module: about 400, and a tenth more for one thought that does not come apart."""
LONG: Mapping[str, str] = {
    "core/client/client.py": "one short method for each request of the API, for programs to call",
    "tui/dashboard/app.py": "short handlers of events and actions, which Textual wants on the app",
}
"""Modules that are longer, and why each of them may be."""


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


def test_a_module_is_no_longer_than_one_reads_at_once() -> None:
    lines = {
        str(path.relative_to(ROOT)): path.read_text().count("\n")
        for path in sources("core", "tui", "tests/core")
    }
    long = {name: count for name, count in lines.items() if count > MOST_LINES}
    assert {name: count for name, count in long.items() if name not in LONG} == {}
    assert LONG.keys() - long.keys() == set(), "These are short enough by now: take them out."
    assert all(LONG.values())


def test_no_imports_run_in_a_circle() -> None:
    imports = graph()
    assert len(imports) > 200
    assert circles(imports) == []


def unawaited(code: str) -> list[int]:
    """Lines of `asyncio.gather` that return before all of its work has ended.

    Without `return_exceptions` it raises as soon as one fails or is cancelled; the others go on
    without an owner.
    """
    return [
        node.lineno
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Call)
        and "gather" in (getattr(node.func, "attr", ""), getattr(node.func, "id", ""))
        and not any(keyword.arg == "return_exceptions" for keyword in node.keywords)
    ]


def test_work_that_runs_at_once_is_waited_for() -> None:
    """`together` and `each_to_its_end` are the ways; the first is made of `gather`."""
    assert unawaited("await asyncio.gather(a(), return_exceptions=True)\ngathered(b())") == []
    assert unawaited("await asyncio.gather(a(), b())\nawait gather(a())") == [1, 2]
    found = {
        str(path.relative_to(ROOT)): len(lines)
        for path in sources("core", "tui")
        if (lines := unawaited(path.read_text()))
    }
    assert found == {"core/concurrency/tasks.py": 1}


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


VAGUE = re.compile(
    r"\b(whoever|somebody|nobody|everybody|so many|so much|what is meant)\b", re.IGNORECASE
)
"""Words that stand for a thing without naming it."""


def test_prose_names_what_it_is_about() -> None:
    vague = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in sources("core", "tui")
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if VAGUE.search(line)
    ]
    assert not vague, "\n".join(vague)
