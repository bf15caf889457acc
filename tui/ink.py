"""Colours of the theme in force, as styles for what is drawn line by line."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from rich.style import Style
from textual.color import Color, ColorParseError

from tui.theme import MUTED_SHARE

MUTED = MUTED_SHARE
"""How much of the foreground is left in what stands back, as in the themes' `$text-muted`."""


def ink(variables: Mapping[str, str], name: str) -> Style:
    """The style of a theme variable such as `success`, or of `muted`; none where there is none."""
    if name == "muted":
        return _muted(variables.get("foreground", ""), variables.get("background", ""))
    return _plain(variables.get(name, ""))


@lru_cache(maxsize=256)
def _plain(value: str) -> Style:
    try:
        return Style(color=Color.parse(value).rich_color)
    except ColorParseError:
        return Style()


@lru_cache(maxsize=64)
def _muted(foreground: str, background: str) -> Style:
    try:
        front, back = Color.parse(foreground), Color.parse(background)
    except ColorParseError:
        return Style(dim=True)
    if front.ansi is not None or back.ansi is not None:
        return Style(color="bright_black")  # the terminal's own colours cannot be mixed
    return Style(color=back.blend(front, MUTED).rich_color)
