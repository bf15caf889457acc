"""Replaces signs that the fonts of the Linux console do not have, such as Textual's borders.

modeldeck's own glyphs have a form for it (`modeldeck.tui.text.format.CONSOLE`). Letters stay: the
person chose a font for them. Widths are kept.
"""

# ruff: noqa: RUF001  (what looks alike is the point of the table)

from __future__ import annotations

from functools import lru_cache

from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

from modeldeck.tui.dashboard.ascii_filter import plain

SIGNS = frozenset("█░▒■▲▼♦×•●▸◂┊│─└┤┼…·«»║←→↑↓✗—")
"""Signs that are in all of the console's usual fonts."""

_ALIKE = {
    **dict.fromkeys("━═╌╍┄┅┈┉–−", "─"),
    **dict.fromkeys("┃▐▌", "█"),
    **dict.fromkeys("╎╏┆┇┋", "┊"),
    **dict.fromkeys("◆★⭑", "♦"),
    **dict.fromkeys("▪✓✔", "■"),
    **dict.fromkeys("○◐◦‣▶▷›", "»"),
    **dict.fromkeys("‹", "«"),
    **dict.fromkeys("‖", "║"),
    **dict.fromkeys("▓▆▇", "█"),
    **dict.fromkeys("▃▄▅", "▒"),
    **dict.fromkeys("▁▂", "░"),
    **dict.fromkeys("▀", "█"),
}


@lru_cache(4096)
def console_text(text: str) -> str:
    """The text in signs of the console, in as many cells as before.

    >>> console_text("╭─ Zoë ▁ ✓ 模 —")
    '┼─ Zoë ░ ■ ?? —'
    """
    return text if text.isascii() else "".join(map(_shown, text))


def _shown(char: str) -> str:
    if char.isascii() or char in SIGNS:
        return char
    if alike := _ALIKE.get(char):
        return alike
    if "\u2500" <= char <= "\u257f":  # the corners and crossings of boxes
        return "┼"
    if char.isalpha() and cell_len(char) == 1:
        return char
    return plain(char)


class ConsoleOnly(LineFilter):
    """Turns every line into what the console shows before it goes to the terminal."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The segments with their text in signs of the console."""
        return [Segment(console_text(text), style, control) for text, style, control in segments]
