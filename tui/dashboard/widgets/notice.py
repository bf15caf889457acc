"""The notice above the footer: result of the last action."""

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

Severity = Literal["done", "note", "refused", "error"]
"""`refused`: a key that does not apply now, which is no failure."""

ROWS = 3
"""Most lines of an error, or a refusal, that is too long for one."""
LONG: tuple[Severity, ...] = ("refused", "error")
"""Severities whose remedy at the end is never cut off: they may take `ROWS` lines."""
LEAST = 4
"""Width in cells below which no notice is shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoticeMessage:
    """A message to the user."""

    text: str
    severity: Severity = "note"
    at: str = ""
    """Local time as HH:MM:SS."""
    stamp: float = 0.0
    """Time in seconds since the epoch."""
    about: str = ""
    """Id of what it is about; empty for nothing in particular."""
    details: str = ""
    """What the Log shows instead of the text, such as a traceback."""
    stays: bool = False
    """Whether it is shown until another message comes."""


class Notice(Widget):
    """Shows the newest message for its time; all of them stay in the Log screen."""

    DEFAULT_CSS = """
    Notice { height: auto; min-height: 1; max-height: 3; padding: 0 1; color: $foreground; }
    """

    message: reactive[NoticeMessage | None] = reactive(None, layout=True)
    hint: reactive[str] = reactive("", layout=True)
    """What can be written next, in place of the message; empty for none."""

    def __init__(self, glyphs: Glyphs) -> None:
        super().__init__()
        self._glyphs = glyphs

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """Number of lines of the message at this width."""
        return len(self._lines(width))

    def render(self) -> Text:
        """The message; an error or a refusal may take several lines, others are cut to one."""
        return Text("\n").join(self._lines(self.size.width))

    def _lines(self, width: int) -> list[Text]:
        inks = ink(self.app.theme_variables)
        is_error = self.message is not None and self.message.severity == "error"
        if self.hint and not is_error and width >= LEAST:
            return [Text(fmt.cut(self.hint, width), inks.muted)]
        if self.message is None or width < LEAST:
            return [Text()]
        sign, style = {
            "done": (self._glyphs.done, inks.success),
            "note": (self._glyphs.dot, inks.muted),
            "refused": (self._glyphs.warning, inks.warning),
            "error": (self._glyphs.failed, inks.error),
        }[self.message.severity]
        text = fmt.clean(self.message.text)
        if self.message.severity not in LONG:
            text = fmt.cut(text, width - 2)
        first, *more = Text(text).wrap(self.app.console, width - 2)
        if len(more) >= ROWS:  # the remedy is at the end
            first.truncate(width - 4)
            first.append(" …")
        line = Text.assemble((sign, style), " ", first)
        if not more and (room := width - line.cell_len - len(self.message.at)) >= 2:
            line.append(" " * room).append(self.message.at, inks.muted)
        return [line, *(Text("  ").append_text(rest) for rest in more[1 - ROWS :])]
