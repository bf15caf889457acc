"""The go-to line: a text field above the footer, and above it the entries that match."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from rich.text import Text
from textual import events, on
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widget import Widget
from textual.widgets import Input, Static

from modeldeck.tui.dashboard.go_to import drawing
from modeldeck.tui.dashboard.go_to.entries import GoToCursor, GoToEntry, completion, found
from modeldeck.tui.dashboard.questions import Question, QuestionKey
from modeldeck.tui.dashboard.theme import ink
from modeldeck.tui.dashboard.widgets.bars import TextLines
from modeldeck.tui.dashboard.widgets.prompt import QuestionBody
from modeldeck.tui.text.format import Glyphs

QUESTION = Question(title="", word="Go to", cancelled="")

WIDE = 100
"""Width in cells from which on the keys to choose are named."""

STEPS = {
    "up": (-1, 0),
    "ctrl+p": (-1, 0),
    "down": (1, 0),
    "ctrl+n": (1, 0),
    "pageup": (0, -1),
    "pagedown": (0, 1),
}
"""Entries and pages to move by, by key."""

Offer = Callable[[str], Sequence[GoToEntry]]
"""Every entry, for what is written."""


class GoToLine(QuestionBody):
    """Body of the go-to question: the list, and the line that is written."""

    DEFAULT_CSS = """
    GoToLine { height: auto; }
    GoToLine > TextLines { height: auto; }
    GoToLine > Horizontal { height: 1; }
    GoToLine > Horizontal > Input { width: 1fr; border: none; height: 1; padding: 0;
                                    background: $surface; }
    GoToLine > Horizontal > Static { width: auto; }
    GoToLine #go-to-count { color: $text-muted; padding: 0 1 0 1; }
    """

    def __init__(
        self,
        offer: Offer,
        choose: Callable[[GoToEntry, str], None],
        is_refused: Callable[[GoToEntry], bool],
        glyphs: Glyphs,
        *,
        everything: bool,
    ) -> None:
        """Make a line that nothing is written on.

        Args:
            offer: Returns every entry.
            choose: Called with the entry that was chosen, and with what was written.
            is_refused: Whether an entry is only shown, as with `--readonly`.
            glyphs: Characters that the terminal can show.
            everything: Whether all entries are listed before anything is written.
        """
        super().__init__()
        self._offer = offer
        self._choose = choose
        self._is_refused = is_refused
        self._glyphs = glyphs
        self._everything = everything
        self._cursor = GoToCursor()
        self._entries: list[GoToEntry] = []
        self._total = 0
        self.ready = asyncio.Event()
        """Set once it has the focus."""

    def compose(self) -> ComposeResult:
        """The entries, and the line."""
        yield TextLines(id="go-to-list")
        with Horizontal():
            yield Static(" :", markup=False)
            yield Input(compact=True, id="go-to-text")
            yield Static(id="go-to-count", markup=False)

    @property
    def typed_in(self) -> Widget | None:
        """The field that takes letters."""
        return next(iter(self.query(Input)), None)

    @property
    def written(self) -> str:
        """What is written."""
        return self.query_one(Input).value

    def on_mount(self) -> None:
        """List what there is."""
        self._list()

    def on_descendant_focus(self) -> None:
        """Tell that the keys arrive here from now on."""
        self.ready.set()

    def on_resize(self) -> None:
        """Draw for the new size."""
        self.draw()

    def question_keys(self) -> Sequence[QuestionKey]:
        """Entries of the key line."""
        choose = QuestionKey(keys="↑ ↓", label="choose", press="down")
        return (
            QuestionKey(keys="enter", label="does it", press="enter", required=True),
            QuestionKey(keys="tab", label="complete", press="tab"),
            *((choose,) if self.app.size.width >= WIDE else ()),
            QuestionKey(keys="esc", label="leave", press="escape", required=True),
        )

    def press(self, key: str) -> bool:
        """Do what a key does, other than edit the line."""
        if key in STEPS:
            entries, pages = STEPS[key]
            rows = self._rows
            self._cursor.move(entries + pages * rows, len(self._entries), rows)
            self.draw()
        elif key == "tab":
            field = self.query_one(Input)
            field.value = completion(self._entries, self._cursor.at, field.value)
            field.cursor_position = len(field.value)
        elif key == "enter":
            self._enter()
        else:
            return False
        return True

    def _enter(self) -> None:
        """Choose the entry under the cursor; one that cannot be done only says why."""
        if not self._entries:
            return
        entry = self._entries[min(self._cursor.at, len(self._entries) - 1)]
        if not entry.problem:
            self._choose(entry, self.written)
            self.post_message(self.Answered(entry.words))

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._enter()

    @on(Input.Changed)
    def _changed(self, event: Input.Changed) -> None:
        event.stop()
        self._list()

    def _list(self) -> None:
        """Look for entries again; the cursor goes to the best one."""
        written = self.written
        every = self._offer(written)
        self._total = len(every)
        shown = bool(written.strip()) or self._everything
        self._entries = found(every, written) if shown else []
        self._cursor = GoToCursor()
        self.draw()

    @property
    def _rows(self) -> int:
        """Entries that are shown at once."""
        return drawing.room(self.app.size.height, self.app.size.width)

    def draw(self) -> None:
        """Draw the entries and their number."""
        if not self.is_attached:
            return
        width, height = self.app.size
        inks = ink(self.app.theme_variables)
        count, rows = len(self._entries), self._rows
        self._cursor.show(count, rows)
        first = self._cursor.first
        lines = [
            drawing.line(
                entry,
                self.written,
                width,
                self._glyphs,
                inks,
                cursor=place == self._cursor.at,
                dim=self._is_refused(entry),
            )
            for place, entry in enumerate(self._entries[first : first + rows], first)
        ]
        words = f"{count} of {self._total}" if self._entries or self.written.strip() else ""
        wide = width >= drawing.COUNT_BELOW
        if wide and words:
            lines.append(Text(f"   {words}", inks.muted))
        self.query_one("#go-to-list", TextLines).show(lines if height > drawing.LOW else [])
        self.query_one("#go-to-count", Static).update("" if wide else words)

    def on_click(self, event: events.Click) -> None:
        """Choose the entry that was clicked."""
        listed = self.query_one("#go-to-list", TextLines)
        place = int(event.screen_y) - listed.region.y + self._cursor.first
        if listed.region.contains(int(event.screen_x), int(event.screen_y)):
            event.stop()
            if place < len(self._entries):
                self._cursor.at = place
                self._enter()

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Move the cursor."""
        event.stop()
        self.press("down")

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Move the cursor."""
        event.stop()
        self.press("up")
