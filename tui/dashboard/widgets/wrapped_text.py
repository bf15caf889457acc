"""Wrapped text of which only changed lines are drawn again."""

from __future__ import annotations

from rich.text import Text
from textual.geometry import Size

from modeldeck.tui.dashboard.widgets.bars import TextLines


class WrappedText(TextLines):
    """Text of any length; Textual's `Static` would lay out the whole screen on every change."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._text = Text()

    def put(self, text: Text) -> None:
        """Show this text."""
        self._text = text
        self.draw_lines()

    def on_resize(self) -> None:
        """Wrap the text to the new width."""
        self.draw_lines()

    def draw_lines(self) -> None:
        """Draw the text in the present size."""
        self.show(self._wrapped(self.size.width))

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """Number of lines at this width."""
        return len(self._wrapped(width))

    def _wrapped(self, width: int) -> list[Text]:
        if not self._text:
            return []
        return list(self._text.wrap(self.app.console, max(1, width), overflow="fold"))
