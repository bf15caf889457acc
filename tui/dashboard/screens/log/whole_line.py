"""The whole text of the log line under the cursor, below the table."""

from __future__ import annotations

from rich.text import Text
from textual import events

from modeldeck.tui.dashboard.theme import ink
from modeldeck.tui.dashboard.widgets.wrapped_text import WrappedText
from modeldeck.tui.text import format as fmt


class WholeLine(WrappedText):
    """Text in as many lines as there is room for; the others are scrolled to.

    Its last line then says which of them are shown, and by which keys one scrolls.
    """

    DEFAULT_CSS = """
    WholeLine { height: auto; max-height: 50%; padding: 0 2; background: $surface; }
    """

    def __init__(self, keys: str, *, id: str | None = None) -> None:
        """`keys` scroll, such as `J K`."""
        super().__init__(id=id)
        self._keys = keys
        self._first = 0

    def put(self, text: Text) -> None:
        """Show this text from its beginning."""
        if text != self._text:
            self._first = 0
            super().put(text)
            self.refresh(layout=True)  # its height depends on lines that are not drawn

    def scroll_by(self, lines: int) -> None:
        """Scroll by this many lines, as far as there are some."""
        self._first += lines
        self.draw_lines()

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Scroll as the keys do."""
        event.stop()
        self.scroll_by(1)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Scroll as the keys do."""
        event.stop()
        self.scroll_by(-1)

    def draw_lines(self) -> None:
        """Draw the lines that there is room for, and where they are."""
        lines, room = self._wrapped(self.size.width), self.size.height
        if len(lines) <= room or room < 2:
            self._first = 0
            self.show(lines)
            return
        self._first = max(0, min(len(lines) - room + 1, self._first))
        shown = lines[self._first : self._first + room - 1]
        place = f"{self._first + 1}-{self._first + len(shown)} of {len(lines)}"
        foot = fmt.cut(f"{place}   {self._keys} scroll", self.size.width)
        self.show([*shown, Text(foot, ink(self.app.theme_variables).muted)])
