"""Themes: TOML files in `themes/` and in the user's configuration folder.

A theme that cannot be read becomes a notice. `ink` makes Rich styles of the current theme for
widgets that draw lines themselves; `fitting` returns a theme that the terminal can show.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cache, lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec
from rich.style import Style
from textual.color import Color, ColorParseError
from textual.css.constants import VALID_STYLE_FLAGS
from textual.theme import Theme

DEFAULT = "deck-dark"
SIXTEEN = "terminal"
"""Theme for terminals with 16 colours: it uses the terminal's own."""
PLAIN = "plain"
"""Theme without colours, for NO_COLOR and terminals without colours."""

NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")
"""Pattern of theme names, which become CSS classes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ThemeFile:
    """Content of a theme's file. Colours as in CSS, or `ansi_red` for the terminal's own."""

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
    """Further variables of the style sheet, such as `border` or `block-cursor-background`."""


def parse(text: str) -> Theme:
    """Parse a theme file. Raises ValueError with the reason."""
    try:
        table = tomllib.loads(text)
        document = msgspec.convert(table, ThemeFile)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ValueError(str(error)) from error
    if unknown := sorted(set(table) - {entry.name for entry in fields(ThemeFile)}):
        raise ValueError(f"there is no entry {unknown[0]!r} in a theme")
    if not NAME.fullmatch(document.name):
        raise ValueError("a name is small letters, figures and dashes, 32 at most")
    values: dict[str, Any] = msgspec.to_builtins(document)
    for name, value in values.items():
        if isinstance(value, str) and name != "name":
            _check_colour(name, value)
    for name, value in document.variables.items():
        _check_variable(name, value)
    given = {name: value for name, value in values.items() if value is not None}
    return Theme(**given | {"variables": _completed(Theme(**given))})


def _completed(theme: Theme) -> dict[str, str]:
    """The theme's variables, completed by those that suit line-drawn widgets."""
    if theme.ansi:
        return _OWN_COLOURS | theme.variables
    foreground, background = theme.foreground, theme.background
    if not foreground or not background:
        made = theme.to_color_system().generate()
        foreground, background = made["foreground"], made["background"]
    muted = _muted(Color.parse(foreground), Color.parse(background)).color
    # A colour, not `auto 60%`: line-drawn widgets do not know the background.
    name = muted.name if muted else "gray"
    scrollbars = dict.fromkeys(("scrollbar", "scrollbar-corner-color"), name)
    scrollbars |= dict.fromkeys(("scrollbar-hover", "scrollbar-active"), theme.primary)
    scrollbars |= dict.fromkeys(
        ("scrollbar-background", "scrollbar-background-hover", "scrollbar-background-active"),
        background,
    )
    return {"text-muted": name, "text-disabled": name} | scrollbars | theme.variables


_OWN_COLOURS = dict.fromkeys(
    (
        "ansi-background",
        "ansi-foreground",
        "border-blurred",
        "foreground-disabled",
        "scrollbar",
        "scrollbar-background",
        "scrollbar-background-active",
        "scrollbar-background-hover",
        "surface-active",
    ),
    "ansi_default",
)
"""Variables that Textual's widgets need and that it does not set for 16-colour themes, or sets to
black, which is a stripe on a light terminal."""


def _check_colour(name: str, value: str) -> None:
    """Raise ValueError where the value is not a plain colour."""
    try:
        Color.parse("" if value == "auto" else value)
    except ColorParseError as error:
        raise ValueError(f"{name} is not a colour: {value!r}") from error


_SHARE = re.compile(r"(?P<colour>\S+)\s+\d{1,3}%")
_AUTO = re.compile(r"auto(\s+\d{1,3}%)?")
"""Black or white, by contrast with the background."""


@cache
def _variables() -> Mapping[str, str]:
    """All variables that Textual generates for a theme."""
    return Theme(name="any", primary="white").to_color_system().generate()


def _check_variable(name: str, value: str) -> None:
    """Raise ValueError for an unknown variable or an invalid value."""
    known = _variables()
    if name not in known:
        raise ValueError(f"there is no variable {name!r}")
    if name.endswith("style") or "-style-" in name:
        if not set(value.split()) <= VALID_STYLE_FLAGS:
            raise ValueError(f"{name} is not a text style: {value!r}")
    elif not (known[name].startswith("auto") and _AUTO.fullmatch(value)):
        share = _SHARE.fullmatch(value)
        _check_colour(name, share["colour"] if share else value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Themes:
    """Themes that could be read, and errors of the others."""

    themes: tuple[Theme, ...]
    problems: tuple[str, ...]


def load(own: Path | None) -> Themes:
    """Load the shipped themes and the user's from a folder; the user's replace shipped ones."""
    found: dict[str, Theme] = {}
    problems: list[str] = []
    shipped = [
        entry
        for entry in resources.files("modeldeck.themes").iterdir()
        if entry.name.endswith(".toml")
    ]
    mine = sorted(own.glob("*.toml")) if own is not None and own.is_dir() else []
    for entry in [*shipped, *mine]:
        try:
            theme = parse(entry.read_text(encoding="utf-8"))
            found[theme.name] = theme
        except (OSError, ValueError) as error:
            problems.append(f"theme {entry.name}: {error}")
    return Themes(themes=tuple(found[name] for name in sorted(found)), problems=tuple(problems))


def fitting(theme: Theme, colour_system: str | None, *, no_color: bool) -> str:
    """Name of the theme to show when `theme` is wanted.

    `colour_system` is Rich's name for the colours of the terminal: `truecolor`, `256`, `standard`
    for 16, None for none. Themes with own colours need 256; `ansi` themes need 16.
    """
    if no_color or colour_system is None:
        return PLAIN
    if colour_system == "standard" and not theme.ansi:
        return SIXTEEN
    return theme.name


# Styles for line-drawn widgets


@dataclass(frozen=True, slots=True, kw_only=True)
class ThemeStyles:
    """The theme's foreground colours as Rich styles; never the only carrier of a meaning."""

    primary: Style
    secondary: Style
    accent: Style
    success: Style
    warning: Style
    error: Style
    muted: Style
    """For less important text; still readable."""


def ink(variables: Mapping[str, str]) -> ThemeStyles:
    """Styles of a theme, from `App.theme_variables`."""
    return _mixed(*(variables[name] for name in _MIXED))


_MIXED = (
    *("primary", "secondary", "accent", "success", "warning", "error"),
    *("foreground", "background"),
)


@lru_cache(32)
def _mixed(*colours: str) -> ThemeStyles:
    """Styles of these colours, in the order of `_MIXED`."""
    *inks, foreground, background = map(Color.parse, colours)
    styles = [Style.from_color(colour.rich_color) for colour in inks]
    named = dict(zip(_MIXED, styles, strict=False))
    return ThemeStyles(muted=_muted(foreground, background), **named)


MUTED_SHARE = 0.72
"""Share of the foreground in muted text; less is below a contrast of 4.5:1 in some theme."""


def _muted(foreground: Color, background: Color) -> Style:
    if foreground.ansi is not None or background.ansi is not None:
        return Style(dim=True)
    return Style.from_color(background.blend(foreground, MUTED_SHARE).rich_color)
