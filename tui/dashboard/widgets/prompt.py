"""The prompt above the footer: a plan to confirm, or one line of text. Not modal."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widget import Widget
from textual.widgets import Input, Static

from modeldeck.tui.text import format as fmt

LINES = 10
"""Most lines of a plan that are shown; the others are counted."""


class Prompt(Vertical):
    """Prompt widget: hidden without a question; takes all keys until it is answered."""

    DEFAULT_CSS = """
    Prompt { height: auto; max-height: 14; display: none; padding: 0 1; background: $surface;
             border-top: solid $warning; }
    Prompt.asking { display: block; }
    Prompt Static { height: auto; }
    Prompt Input { border: none; height: 1; padding: 0; background: $surface; display: none; }
    Prompt.writing Input { display: block; }
    """

    can_focus = True

    def __init__(self) -> None:
        super().__init__()
        self._answer: asyncio.Future[str | None] | None = None
        self._verb = ""
        self._turn = asyncio.Lock()
        self._before: Widget | None = None
        """Widget that had the focus before the question."""

    def compose(self) -> ComposeResult:
        """The text of the question, and the input."""
        yield Static(id="words", markup=False)
        yield Input(compact=True)

    async def confirm(self, lines: Sequence[str], verb: str) -> bool:
        """Show the lines and ask; True when `y` was pressed."""
        shown = [fmt.clean(line) for line in lines[:LINES]]
        if len(lines) > LINES:
            shown.append(f"and {len(lines) - LINES} more")
        shown.append(f"y {verb}   n or esc keeps everything")
        return await self._ask("\n".join(shown), writing=False) is not None

    async def line(self, label: str, value: str, hint: str) -> str | None:
        """Ask for one line of text; None when `esc` was pressed."""
        self.query_one(Input).value = value
        words = f"{label}   {hint}" if hint else label
        return await self._ask(fmt.clean(words), writing=True)

    async def _ask(self, words: str, *, writing: bool) -> str | None:
        async with self._turn:
            before = self.screen.focused
            if before is not None and self in before.ancestors_with_self:
                before = self._before  # asked again before the focus went back
            self._before = before
            self.query_one("#words", Static).update(words)
            self._answer = asyncio.get_running_loop().create_future()
            self.set_class(writing, "writing")
            self.add_class("asking")
            (self.query_one(Input) if writing else self).focus()
            try:
                return await self._answer
            finally:
                self._answer = None
                self.remove_class("asking", "writing")
                if before is not None and before.is_attached:
                    before.focus()

    def _settle(self, answer: str | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(answer)

    def call_off(self) -> bool:
        """Cancel the question, as `esc` does; False when there is none."""
        asking = self._answer is not None
        self._settle(None)
        return asking

    def on_key(self, event: events.Key) -> None:
        """Take every key while a question is open."""
        if self._answer is None:
            return
        writing = self.has_class("writing")
        if event.key == "escape" or (not writing and event.key in ("n", "q")):
            self._settle(None)
        elif not writing and event.key == "y":
            self._settle("y")
        elif writing:
            return
        event.stop()
        event.prevent_default()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Answer with the line."""
        event.stop()
        self._settle(event.value)
