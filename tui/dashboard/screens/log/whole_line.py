"""The whole text of the log line under the cursor, below the table."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from modeldeck.tui.dashboard.widgets.scrolled_lines import ScrolledLines


class WholeLine(ScrolledLines):
    """Text that is wrapped to the width that there is."""

    DEFAULT_CSS = """
    WholeLine { height: auto; max-height: 50%; padding: 0 2; background: $surface; }
    """

    def lines_at(self, width: int) -> Sequence[Text]:
        """The text in lines of this width."""
        text = Text("\n").join(super().lines_at(width))
        return tuple(text.wrap(self.app.console, max(1, width), overflow="fold") if text else ())
