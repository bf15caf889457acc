"""Replaces characters outside ASCII by similar ones, for terminals that show only ASCII.

modeldeck's own glyphs have an ASCII form (`modeldeck.tui.text.format.Glyphs`); this is for
Textual's borders and scrollbars, markdown bullets, and foreign text. Widths are kept.
"""

# ruff: noqa: RUF001  (what looks alike is the point of the table)

from __future__ import annotations

import unicodedata
from functools import lru_cache

from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

_ALIKE = {
    **dict.fromkeys("─━═╌╍┄┅┈┉–—−‐‑‒", "-"),
    **dict.fromkeys("│║╎╏┆┇┊┋", "|"),
    "┃": "#",  # the thumb of a scrollbar, on a track of `|`
    **dict.fromkeys("•●▪■◆★⭑✓✔", "*"),
    **dict.fromkeys("○◐◦‣▶▷›»→", ">"),
    **dict.fromkeys("‹«←", "<"),
    **dict.fromkeys("‘’‚′", "'"),
    **dict.fromkeys("“”„″", '"'),
    **dict(zip("▁▂▃▄▅▆▇", "_.:-=+*", strict=True)),  # the steps of a history
    "↑": "^",
    "↓": "v",
    "…": "~",
    "×": "x",
    "✗": "x",
    "·": "-",
}


@lru_cache(4096)
def plain(text: str) -> str:
    """The text in ASCII, in as many cells as before.

    >>> plain("╭─ Zoë … 模型")
    '+- Zoe ~ ????'
    """
    return text if text.isascii() else "".join(map(_plain, text))


def _plain(char: str) -> str:
    if char.isascii():
        return char
    if alike := _ALIKE.get(char):
        return alike
    if "\u2500" <= char <= "\u257f":  # the corners and crossings of boxes
        return "+"
    if "\u2580" <= char <= "\u259f":  # blocks
        return "#"
    width = cell_len(char)
    letters = unicodedata.normalize("NFKD", char).encode("ascii", "ignore").decode()
    return letters if letters.isprintable() and len(letters) == width else "?" * width


class AsciiOnly(LineFilter):
    """Turns every line into ASCII before it goes to the terminal."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The segments with their text in ASCII."""
        return [Segment(plain(text), style, control) for text, style, control in segments]
