"""Recipes of architectures that llama.cpp completed once, kept in a file.

Asking llama.cpp takes a second or two for each architecture; with what it said at hand, all of them
are planned in a few seconds. Where it has changed its mind, it is asked again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from tests.support.architectures import Recipe, expand
from tests.support.recipes import Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """What is kept of an architecture."""

    keys: dict[str, Value] = field(default_factory=dict)
    """Metadata that llama.cpp asked for."""
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Of its tensors, by a name with the numbers of all layers that have it in brackets."""
    peak_bytes: int
    """What its engine process took at most when it was measured."""

    def recipe(self, architecture: str) -> Recipe:
        """The recipe, to be changed at will."""
        shapes = {name: shape for key, shape in self.shapes.items() for name in expand(key)}
        return Recipe(architecture=architecture, keys=dict(self.keys), shapes=shapes)


def record(recipe: Recipe, peak_bytes: int) -> Recorded:
    """What to keep of a recipe that is complete."""
    layers: dict[tuple[str, str, tuple[int, ...]], str] = {}
    for name, shape in recipe.shapes.items():
        found = re.match(r"(.*?\bblk\.)(\d)(.*)", name)
        before, layer, after = found.groups() if found else (name, "", "")
        layers[before, after, shape] = layers.get((before, after, shape), "") + layer
    shapes = {
        f"{before}[{numbers}]{after}" if numbers else before: shape
        for (before, after, shape), numbers in layers.items()
    }
    return Recorded(keys=recipe.keys, shapes=shapes, peak_bytes=peak_bytes)


def read(path: Path) -> dict[str, Recorded]:
    """All architectures of a file; none where there is no file."""
    if not path.exists():
        return {}
    return msgspec.json.decode(path.read_bytes(), type=dict[str, Recorded])


def write(path: Path, recorded: Mapping[str, Recorded]) -> None:
    """Keep architectures in a file, a line each."""
    lines = (
        f"{msgspec.json.encode(name).decode()}: {msgspec.json.encode(recorded[name]).decode()}"
        for name in sorted(recorded)
    )
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
