"""Names of keys in sentences."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from modeldeck.tui import dashboard
from modeldeck.tui.dashboard.commands import by_catalog

FOLDER = Path(dashboard.__file__).parent
PRESSED = re.compile(r"\b(?:[Pp]ress|then) [a-zA-Z0-9](?=[.,:;]|$)")
"""A sentence that says which key to press, by the key that it is by default."""


def sentences(source: str) -> list[str]:
    """The texts of a module, without docstrings."""
    tree = ast.parse(source)
    docs = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs
    ]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Press 1, choose a model, then d.", True),
        ("choose one, then l.", True),
        ("then a model goes", False),
        ("No model is loaded.", False),
    ],
)
def test_a_key_in_a_sentence_is_found(text: str, names: bool) -> None:
    assert bool(PRESSED.search(text)) == names


def test_no_sentence_names_a_key_that_the_user_may_have_changed() -> None:
    paths = sorted(FOLDER.rglob("*.py"))
    assert len(paths) > 100
    found = [
        (path.name, text)
        for path in paths
        for text in sentences(path.read_text())
        if PRESSED.search(text)
    ]
    assert found == []


def test_the_catalog_is_named_by_the_keys_of_the_user() -> None:
    keys = {"app.catalog": "F2", "catalog.download": "o"}
    assert by_catalog(keys.__getitem__, "download") == "Press F2, choose a model, then o."
