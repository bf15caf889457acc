"""Names of classes that the dashboard keeps as text: type selectors in CSS, and screens."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from pkgutil import walk_packages
from typing import Any

import pytest
from textual.widget import Widget

from modeldeck.tui import dashboard
from modeldeck.tui.dashboard import screens
from modeldeck.tui.dashboard.app import Dashboard

SELECTOR = re.compile(r"(?<![\w.#$:-])[A-Z]\w+")
"""A type selector: a capitalized word that is no class, id, variable or pseudo-class."""


def loaded(kind: type[Any]) -> Iterator[type[Any]]:
    """A class and all its subclasses that are imported."""
    yield kind
    below: type[Any]
    for below in kind.__subclasses__():
        yield from loaded(below)


@pytest.mark.parametrize("screen", screens.ALL, ids=lambda screen: screen.name)
def test_a_screen_is_found_by_its_name(screen: screens.LazyScreen) -> None:
    view = screen.load()
    assert (screen.name, screen.title) == (view.NAME, view.TITLE)


def test_css_selects_classes_that_exist() -> None:
    for module in walk_packages(dashboard.__path__, f"{dashboard.__name__}."):
        import_module(module.name)
    widgets = set(loaded(Widget))
    known = {kind.__name__ for kind in widgets}
    ours = {kind for kind in widgets if kind.__module__.startswith("modeldeck.")}
    texts = {kind.__name__: kind.__dict__.get("DEFAULT_CSS", "") for kind in ours}
    texts |= {"Dashboard": Dashboard.CSS}
    unknown = {
        name: wrong for name, css in texts.items() if (wrong := set(SELECTOR.findall(css)) - known)
    }
    assert len(ours) > 20
    assert unknown == {}
