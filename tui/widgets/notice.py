"""The notice: one line above the footer that says what came of the last verb."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from rich.text import Text
from textual.reactive import reactive
from textual.widget import Widget

from tui import format as fmt
from tui.format import Glyphs

Severity = Literal["done", "note", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """Something to say."""

    text: str
    severity: Severity = "note"
    at: str = ""
    """When, as the log has it."""


class Notice(Widget):
    """The newest message; the others stay readable in the Log view."""

    DEFAULT_CSS = """
    Notice { height: 1; padding: 0 1; color: $text-muted; }
    """

    message: reactive[Message | None] = reactive(None)

    def __init__(self, glyphs: Glyphs) -> None:
        super().__init__()
        self._glyphs = glyphs

    def render(self) -> Text:
        """The message on one line, cut where it is too long."""
        if self.message is None:
            return Text()
        sign, style = {
            "done": (self._glyphs.done, "green"),
            "note": (self._glyphs.dot, ""),
            "error": (self._glyphs.failed, "bold red"),
        }[self.message.severity]
        text = fmt.cut(fmt.clean(self.message.text), max(0, self.size.width - 2))
        return Text.assemble((sign, style), " ", text)
