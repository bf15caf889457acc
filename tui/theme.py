"""Themes: TOML files in `themes/` and in the person's configuration folder.

A theme is data; one that cannot be read is a notice, never a crash.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
from textual.color import Color, ColorParseError
from textual.theme import Theme

DEFAULT = "deck-dark"


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What a theme's file says. Colours as CSS has them, or `ansi_red` for the terminal's own."""

    name: str
    dark: bool = True
    ansi: bool = False
    """Whether it uses the terminal's own 16 colours."""
    primary: str
    secondary: str | None = None
    warning: str | None = None
    error: str | None = None
    success: str | None = None
    accent: str | None = None
    foreground: str | None = None
    background: str | None = None
    surface: str | None = None
    panel: str | None = None
    variables: dict[str, str] = field(default_factory=dict)
    """Further variables of the style sheet."""


def parse(text: str) -> Theme:
    """The theme that a file describes. Raises ValueError saying what is wrong with it."""
    try:
        document = msgspec.convert(tomllib.loads(text), Document)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ValueError(str(error)) from error
    fields: dict[str, Any] = msgspec.to_builtins(document)
    for name, value in fields.items():
        if isinstance(value, str) and name != "name":
            try:
                Color.parse(value)
            except ColorParseError as error:
                raise ValueError(f"{name} is not a colour: {value}") from error
    return Theme(**{name: value for name, value in fields.items() if value is not None})


@dataclass(frozen=True, slots=True, kw_only=True)
class Themes:
    """All themes that could be read, and what could not."""

    themes: tuple[Theme, ...]
    problems: tuple[str, ...]


def load(own: Path | None) -> Themes:
    """The themes that come with modeldeck, and the person's own from a folder; their names win."""
    found: dict[str, Theme] = {}
    problems: list[str] = []
    shipped = [
        entry for entry in resources.files("themes").iterdir() if entry.name.endswith(".toml")
    ]
    mine = sorted(own.glob("*.toml")) if own is not None and own.is_dir() else []
    for entry in [*shipped, *mine]:
        try:
            theme = parse(entry.read_text(encoding="utf-8"))
            found[theme.name] = theme
        except (OSError, ValueError) as error:
            problems.append(f"theme {entry.name}: {error}")
    return Themes(themes=tuple(found[name] for name in sorted(found)), problems=tuple(problems))
