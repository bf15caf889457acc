"""What can be said without a core: the names of the built-in catalog."""

from __future__ import annotations


def builtin_names() -> list[tuple[str, str]]:
    """Every model of the built-in catalog by its unique name, with what it is called."""
    from modeldeck.core.catalog.builtin import load

    return [(model.unique, model.name) for model in load()]
