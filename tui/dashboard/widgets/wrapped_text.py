"""Text that flows: wrapped to its width, of which only lines that changed are drawn again."""

from __future__ import annotations

from rich.text import Text
from textual.geometry import Size

from modeldeck.tui.dashboard.widgets.bars import TextLines


class WrappedText(TextLines):
    """A text of any length. Textual's `Static` lays out the whole screen for every new word."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._text = Text()

    def put(self, text: Text) -> None:
        """Show this text from now on."""
        self._text = text
        self.show(self._wrapped(self.size.width))

    def on_resize(self) -> None:
        """It breaks elsewhere."""
        self.show(self._wrapped(self.size.width))

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """As many lines as it takes at that width."""
        return len(self._wrapped(width))

    def _wrapped(self, width: int) -> list[Text]:
        if not self._text:
            return []
        return list(self._text.wrap(self.app.console, max(1, width), overflow="fold"))
