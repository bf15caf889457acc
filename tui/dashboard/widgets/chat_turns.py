"""The turns of a conversation: what was asked, and the answer as it comes."""

from __future__ import annotations

import time

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Static

from modeldeck.core.schema import Chunk
from modeldeck.tui.dashboard.widgets.markdown import MarkdownText
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text.format import Glyphs

PAINT_S = 0.1
"""Between two paintings of an answer that comes: as fast as a person reads along."""
PAINT_SHARE = 0.25
"""Of the time, at most, for painting: the rest is for keys, however long the answer is."""


class QuestionTurn(Vertical):
    """What the person said; shown as it was written."""

    DEFAULT_CSS = """
    QuestionTurn { height: auto; margin: 0 0 1 0; padding: 0 1; background: $surface; }
    QuestionTurn .who { color: $accent; text-style: bold; height: 1; }
    QuestionTurn .said { height: auto; }
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def compose(self) -> ComposeResult:
        """Who, and what."""
        yield Static("you", classes="who", markup=False)
        yield Static(Text(fmt.clean(self.text, lines=True)), classes="said")


class AnswerTurn(Vertical):
    """An answer: painted as markdown while it comes, its figures under it."""

    DEFAULT_CSS = """
    AnswerTurn { height: auto; margin: 0 0 1 0; padding: 0 1; }
    AnswerTurn .who { color: $primary; text-style: bold; height: 1; }
    AnswerTurn .figures { color: $text-muted; height: auto; }
    """

    def __init__(self, name: str, glyphs: Glyphs) -> None:
        super().__init__()
        self.text = ""
        """All of it so far, as it came, without what could steer a terminal."""
        self._who = name
        self._glyphs = glyphs
        self._painted = 0
        self._rest_until = 0.0
        self._asked_at = time.monotonic()
        self._first_s: float | None = None
        self._pieces = 0
        self.ended = False

    def compose(self) -> ComposeResult:
        """Who, what, and how fast."""
        yield Static(fmt.clean(self._who), classes="who", markup=False)
        yield MarkdownText()
        yield Static(self._progress(""), classes="figures", markup=False)

    def add(self, chunk: Chunk) -> None:
        """Take a piece; it is painted by the next `paint`."""
        if chunk.text:
            self._pieces += 1
            if self._first_s is None:
                self._first_s = time.monotonic() - self._asked_at
            self.text += fmt.clean(chunk.text, lines=True)

    async def paint(self, waiting_for: str = "") -> None:
        """Show what came since; called as often as one likes."""
        now = time.monotonic()
        if now < self._rest_until or self.ended:
            return
        await self._append()
        self.query_one(".figures", Static).update(self._progress(waiting_for))
        took = time.monotonic() - now
        self._rest_until = now + max(PAINT_S, took / PAINT_SHARE)

    async def _append(self) -> None:
        """Paint what is not painted yet."""
        new, self._painted = self.text[self._painted :], len(self.text)
        for body in self.query(MarkdownText):  # none, where the dashboard is being left
            await body.append(new)

    async def end(self, last: Chunk | None, why: str) -> None:
        """Paint the rest, and the figures: of the core where it said them, else as seen here."""
        self.ended = True
        await self._append()
        for figures in self.query(".figures").results(Static):
            figures.update(self._figures(last, why))

    def _progress(self, waiting_for: str) -> str:
        elapsed = fmt.duration(time.monotonic() - self._asked_at)
        if self._first_s is None:
            return f"{waiting_for or 'reading your question'}  {elapsed}   esc stops"
        return f"writing  {fmt.number(self._pieces, 'piece')}  {elapsed}   esc stops"

    def _figures(self, last: Chunk | None, why: str) -> str:
        rate = last.tokens_per_s if last else None
        first = (last.time_to_first_token_s if last else None) or self._first_s
        count = last.completion_tokens if last else None
        parts = [
            f"{rate:.1f} tok/s" if rate is not None else "",
            f"first token {fmt.duration(first)}" if first is not None else "",
            fmt.number(count, "token") if count is not None else "",
            why,
        ]
        return f" {self._glyphs.dot} ".join(part for part in parts if part)
