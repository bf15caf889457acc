"""Details below a table: lines of text, of which those that have no room are scrolled to."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rich.text import Text
from textual import events
from textual.geometry import Size

from modeldeck.tui.dashboard.commands import Command
from modeldeck.tui.dashboard.theme import ink
from modeldeck.tui.dashboard.widgets.bars import TextLines
from modeldeck.tui.text import format as fmt

COMMANDS = (
    Command(
        name="scroll_down",
        keys="J",
        label="scroll details",
        help="Scroll the text below the table down.",
        action="scroll_details(1)",
        footer=False,
        changes=False,
    ),
    Command(
        name="scroll_up",
        keys="K",
        label="scroll details up",
        help="Scroll the text below the table up.",
        action="scroll_details(-1)",
        footer=False,
        changes=False,
    ),
)
"""Keys of a view that has such details, and `action_scroll_details`."""


class ScrolledLines(TextLines):
    """As many lines as there is room for.

    Where some have none, the last one says which are shown, and by which keys one scrolls.
    """

    def __init__(self, key_of: Callable[[str], str], *, id: str | None = None) -> None:
        """`key_of` gives the keys of `COMMANDS`, as those of a view."""
        super().__init__(id=id)
        self._keys = " ".join(key_of(command.name) for command in COMMANDS)
        self._every: tuple[Text, ...] = ()
        self._first = 0

    def lines_at(self, width: int) -> Sequence[Text]:
        """All lines, at this width."""
        return self._every

    def put(self, lines: Sequence[Text], *, anew: bool = False) -> None:
        """Show these lines; from the first one, where they are `anew` about something else."""
        before = self.get_content_height(self.size, self.size, self.size.width)
        self._every = tuple(lines)
        self._first = 0 if anew else self._first
        if before != self.get_content_height(self.size, self.size, self.size.width):
            self.refresh(layout=True)  # the height depends on lines that are not drawn
        self.draw_lines()

    def scroll_by(self, lines: int) -> None:
        """Scroll by this many lines, as far as there are some."""
        self._first += lines
        self.draw_lines()

    def on_resize(self) -> None:
        """Draw for the new size."""
        self.draw_lines()

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Scroll as the keys do."""
        event.stop()
        self.scroll_by(1)

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Scroll as the keys do."""
        event.stop()
        self.scroll_by(-1)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """Number of all lines."""
        return len(self.lines_at(width))

    def draw_lines(self) -> None:
        """Draw the lines that there is room for, and where they are."""
        lines, room = self.lines_at(self.size.width), self.size.height
        if len(lines) <= room or room < 2:
            self._first = 0
            self.show(lines)
            return
        self._first = max(0, min(len(lines) - room + 1, self._first))
        shown = lines[self._first : self._first + room - 1]
        place = f"{self._first + 1}-{self._first + len(shown)} of {len(lines)}"
        foot = fmt.cut(f"{place}   {self._keys} scroll", self.size.width)
        self.show([*shown, Text(foot, ink(self.app.theme_variables).muted)])
