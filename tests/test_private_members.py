"""Private members of other packages that modeldeck uses: listed here, and all of them still there.

pyproject.toml gives these packages an upper bound. To raise it, run this test with the new version,
and look at what changed in the members that are overridden or set.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from pkgutil import walk_packages
from types import ModuleType

import pytest
from packaging.requirements import Requirement

import modeldeck.core
import modeldeck.tui
from modeldeck.tui.dashboard.textual_private import INHERITED, MODULES, REPLACED

ROOT = Path(__file__).parents[1]
FOLDERS = ("core", "tui")

TEXTUAL = {
    ("textual.app", "App"): INHERITED["App"],
    ("textual.drivers.linux_driver", "LinuxDriver"): INHERITED["LinuxDriver"],
}
"""Members of Textual's classes that classes of the dashboard inherit."""

REPLACED_IN_TEXTUAL = {
    ("textual.message_pump", "MessagePump"): REPLACED["MessagePump"],
    ("textual._xterm_parser", "XTermParser"): REPLACED["XTermParser"],
}
"""Members of Textual's classes that the dashboard replaces for all of their objects."""

LLAMA_CPP = {
    ("llama_cpp.llama_cpp", ""): ("_lib",),
    ("llama_cpp.mtmd_cpp", ""): ("_libmtmd",),
}
"""The libraries of llama.h and mtmd.h, for functions that llama-cpp-python binds otherwise or not
at all."""

MLX_LM = {
    ("mlx_lm.tokenizer_utils", "TokenizerWrapper"): (
        "_tokenizer",
        "_chat_template",
        "_thinking_kwarg",
    ),
    ("mlx_lm.generate", "BatchGenerator"): ("_generation_batch",),
}
"""How mlx-lm writes a conversation, by a template or by Python code of its own; and the caches of
the answers that it writes."""

Members = Mapping[tuple[str, str], Iterable[str]]
"""Module and class (or empty for the module itself), and their members."""

DISTRIBUTIONS: Mapping[str, Members] = {
    "textual": {**TEXTUAL, **REPLACED_IN_TEXTUAL},
    "llama-cpp-python": LLAMA_CPP,
    "mlx-lm": MLX_LM,
}
LISTED = {name for owners in DISTRIBUTIONS.values() for names in owners.values() for name in names}
NO_PRIVATE = {"_exit", "_replace", "_fields_"}
"""`os._exit`, `namedtuple._replace` and `ctypes.Structure._fields_` are documented in spite of
their names."""


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


@cache
def classes(path: str) -> Mapping[str, ast.ClassDef]:
    """Definitions of the classes at the top of a file, by name."""
    tree = ast.parse(Path(path).read_text())
    return {node.name: node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}


def definition(kind: type) -> ast.ClassDef | None:
    """Source of a class; None where it has none in Python."""
    path = getattr(importlib.import_module(kind.__module__), "__file__", None) or ""
    return classes(path).get(kind.__name__) if path.endswith(".py") else None


@cache
def members(kind: type) -> frozenset[str]:
    """Private members that a class defines in its body, or sets on `self`."""
    found = {name for name in vars(kind) if is_private(name)}
    tree = definition(kind)
    return frozenset(found | set_on_self(tree) if tree is not None else found)


def set_on_self(tree: ast.ClassDef) -> set[str]:
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found |= {node.attr} if _is_self(node.value) and is_private(node.attr) else set()
    return found


def mentioned(kind: type) -> set[str]:
    """Private members that a class of the house defines, or reads of `self` or `super()`."""
    tree = definition(kind)
    assert tree is not None
    found = set()
    for node in tree.body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                found.add(node.name)
            case ast.Assign():
                found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
            case ast.AnnAssign(target=ast.Name(id=name)):
                found.add(name)
    for attribute in ast.walk(tree):
        if isinstance(attribute, ast.Attribute) and _is_self(attribute.value):
            found.add(attribute.attr)
    return set(filter(is_private, found))


def _is_self(node: ast.expr) -> bool:
    match node:
        case ast.Name(id="self" | "cls") | ast.Call(func=ast.Name(id="super")):
            return True
    return False


@cache
def trees() -> list[ast.Module]:
    """The source files of the house."""
    paths = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
    return [ast.parse(path.read_text()) for path in paths]


def modules() -> Iterator[ModuleType]:
    for top in (modeldeck.core, modeldeck.tui):
        for found in walk_packages(top.__path__, f"{top.__name__}."):
            yield importlib.import_module(found.name)


def inherited() -> Iterator[tuple[str, str]]:
    """Private members of foreign classes in classes of the house: class, and member."""
    standard = {"abc", "builtins", "collections", "enum", "typing"}
    for module in modules():
        for kind in vars(module).values():
            if not inspect.isclass(kind) or kind.__module__ != module.__name__:
                continue
            above = [
                base
                for base in kind.__mro__
                if base.__module__.split(".")[0] not in {"modeldeck", *standard}
            ]
            used = mentioned(kind) if above else set()
            for base in above:
                yield from ((kind.__name__, name) for name in used & members(base))


def test_private_members_that_are_inherited_are_listed() -> None:
    """Also found: a member of ours that has the name of one of Textual's by accident."""
    listed = {name for names in TEXTUAL.values() for name in names}
    found = set(inherited())
    assert {name for _, name in found} == listed, sorted(found)


def test_private_members_of_other_objects_are_listed() -> None:
    found = set()
    for tree in trees():
        read, own = set(), set()
        for node in ast.walk(tree):
            match node:
                case ast.Attribute(value=value, attr=name) if _is_self(value):
                    own.add(name)
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                    own.add(name)
                case ast.Attribute(attr=name):
                    read.add(name)
                case ast.Call(
                    func=ast.Name(id="getattr"), args=[_, ast.Constant(value=str() as name), *_]
                ):
                    read.add(name)
        found |= {name for name in read - own if is_private(name)}
    assert found - NO_PRIVATE <= LISTED, "Of another package? Then list it above."


def test_private_modules_are_listed() -> None:
    found = set()
    for tree in trees():
        for node in ast.walk(tree):
            match node:
                case ast.ImportFrom(module=str(module), names=aliases, level=0):
                    names = [f"{module}.{alias.name}" for alias in aliases]
                case ast.Import(names=aliases):
                    names = [alias.name for alias in aliases]
                case _:
                    continue
            found |= {n for n in names if any(map(is_private, n.split(".")))}
    assert found - {"__future__.annotations"} == set(MODULES)
    for name in MODULES:
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_private_members_are_still_there(distribution: str) -> None:
    for (module, kind), names in DISTRIBUTIONS[distribution].items():
        try:
            owner = importlib.import_module(module)
        except ImportError:
            pytest.skip(f"{distribution} is not installed")
        if not kind:
            assert [name for name in names if not hasattr(owner, name)] == []
            continue
        there = frozenset[str]().union(*map(members, getattr(owner, kind).__mro__))
        assert set(names) - there == set()


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_packages_with_private_members_are_bounded(distribution: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    lines = [*project["dependencies"], *(line for extra in extras for line in extra)]
    asked = [found for found in map(Requirement, lines) if found.name == distribution]
    assert asked
    for requirement in asked:
        bounds = [s for s in requirement.specifier if s.operator == "<"]
        assert bounds, f"{requirement}: a new version may lack a member"
        assert requirement.specifier.contains(version(distribution), prereleases=True)
