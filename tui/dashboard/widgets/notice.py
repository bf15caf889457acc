"""The notice: one line above the footer that says what came of the last verb."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rich.text import Text
from textual.geometry import Size
from textual.reactive import reactive
from textual.widget import Widget

from modeldeck.tui.dashboard.theme import ink
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text.format import Glyphs

Severity = Literal["done", "note", "error"]

ROWS = 3
"""Lines that an error may take where it is too long for one."""
LEAST = 4
"""Cells below which nothing is said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeMessage:
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

    message: reactive[NoticeMessage | None] = reactive(None, layout=True)

    def __init__(self, glyphs: Glyphs) -> None:
        super().__init__()
        self._glyphs = glyphs

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """The lines that the message takes at this width."""
        return len(self._lines(width))

    def render(self) -> Text:
        """The message; an error on more lines where it needs them, all else cut."""
        return Text("\n").join(self._lines(self.size.width))

    def _lines(self, width: int) -> list[Text]:
        if self.message is None or width < LEAST:
            return [Text()]
        inks = ink(self.app.theme_variables)
        sign, style = {
            "done": (self._glyphs.done, inks.success),
            "note": (self._glyphs.dot, inks.muted),
            "error": (self._glyphs.failed, inks.error),
        }[self.message.severity]
        text = fmt.clean(self.message.text)
        if self.message.severity != "error":
            text = fmt.cut(text, width - 2)
        first, *more = Text(text).wrap(self.app.console, width - 2)
        if len(more) >= ROWS:  # what to do stands at the end
            first.truncate(width - 4)
            first.append(" …")
        line = Text.assemble((sign, style), " ", first)
        if not more and (room := width - line.cell_len - len(self.message.at)) >= 2:
            line.append(" " * room).append(self.message.at, inks.muted)
        return [line, *(Text("  ").append_text(rest) for rest in more[1 - ROWS :])]
