"""The notice: one line above the footer that says what came of the last verb."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rich.text import Text
from textual.reactive import reactive
from textual.widget import Widget

from tui import format as fmt
from tui.format import Glyphs
from tui.theme import ink

Severity = Literal["done", "note", "error"]

ROWS = 3
"""Lines that an error may take where it is too long for one: what to do stands at its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """Something to say."""

    text: str
    severity: Severity = "note"
    at: str = ""
    """When, as a clock shows it here."""
    stamp: float = 0.0
    """When, in seconds since the epoch."""


class Notice(Widget):
    """The newest message; the others stay readable in the Log view."""

    DEFAULT_CSS = """
    Notice { height: auto; min-height: 1; max-height: 3; padding: 0 1; color: $foreground; }
    """

    message: reactive[Message | None] = reactive(None, layout=True)

    def __init__(self, glyphs: Glyphs) -> None:
        super().__init__()
        self._glyphs = glyphs

    def render(self) -> Text:
        """The message; an error on more lines where it needs them, all else cut."""
        if self.message is None:
            return Text()
        inks = ink(self.app.theme_variables)
        sign, style = {
            "done": (self._glyphs.done, inks.success),
            "note": (self._glyphs.dot, inks.muted),
            "error": (self._glyphs.failed, inks.error),
        }[self.message.severity]
        width = max(0, self.size.width - 2)
        text = fmt.clean(self.message.text)
        text = fmt.cut(text, width * ROWS - ROWS if self.message.severity == "error" else width)
        line = Text.assemble((sign, style), " ", text)
        room = self.size.width - line.cell_len - len(self.message.at)
        if room >= 2:
            line.append(" " * room).append(self.message.at, inks.muted)
        return line
