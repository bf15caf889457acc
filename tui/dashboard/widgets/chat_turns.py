"""Widgets for the turns of a conversation: questions, and answers while they are generated."""

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
"""Seconds between two paints of an answer that is generated."""
THOUGHT_LINES = 6
"""Lines of a thought that are shown while it is written."""
PAINT_SHARE = 0.25
"""Largest share of time for painting; the rest is left for keys, even for long answers."""


class QuestionTurn(Vertical):
    """A message of the user, shown as plain text."""

    DEFAULT_CSS = """
    QuestionTurn { height: auto; margin: 0 0 1 0; padding: 0 1; background: $surface; }
    QuestionTurn .who { color: $accent; text-style: bold; height: 1; }
    QuestionTurn .said { height: auto; }
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def compose(self) -> ComposeResult:
        """Heading and text."""
        yield Static("you", classes="who", markup=False)
        yield Static(Text(fmt.clean(self.text, lines=True)), classes="said")


class AnswerTurn(Vertical):
    """An answer, shown as markdown while it is generated, with its figures below."""

    DEFAULT_CSS = """
    AnswerTurn { height: auto; margin: 0 0 1 0; padding: 0 1; }
    AnswerTurn .who { color: $primary; text-style: bold; height: 1; }
    AnswerTurn .figures { color: $text-muted; height: auto; }
    AnswerTurn .thought { color: $text-muted; height: auto; display: none; }
    AnswerTurn.thinks .thought { display: block; }
    """

    def __init__(self, name: str, glyphs: Glyphs) -> None:
        super().__init__()
        self.text = ""
        """The text so far, without terminal control characters."""
        self._who = name
        self._glyphs = glyphs
        self.thought = ""
        """What it thinks before it answers, without terminal control characters."""
        self._thoughts = 0
        """Pieces of the thought so far: about as many tokens."""
        self._painted = 0
        self._rest_until = 0.0
        self._asked_at = time.monotonic()
        self._first_s: float | None = None
        self._pieces = 0
        self.ended = False

    def compose(self) -> ComposeResult:
        """Heading, text and figures."""
        yield Static(fmt.clean(self._who), classes="who", markup=False)
        yield Static(classes="thought", markup=False)
        yield MarkdownText()
        yield Static(self._progress(""), classes="figures", markup=False)

    def add(self, chunk: Chunk) -> None:
        """Append a chunk; the next `paint` shows it."""
        if chunk.thought:
            self._thoughts += 1
            self.thought += fmt.clean(chunk.thought, lines=True)
        if chunk.text:
            self._pieces += 1
            if self._first_s is None:
                self._first_s = time.monotonic() - self._asked_at
            self.text += fmt.clean(chunk.text, lines=True)

    async def paint(self, waiting_for: str = "") -> None:
        """Show new text, unless painting takes more than its share of time."""
        now = time.monotonic()
        if now < self._rest_until or self.ended:
            return
        await self._append()
        self._show_thought(self._thoughts)
        self.query_one(".figures", Static).update(self._progress(waiting_for))
        took = time.monotonic() - now
        self._rest_until = now + max(PAINT_S, took / PAINT_SHARE)

    async def _append(self) -> None:
        """Paint the text that is not shown yet."""
        new, self._painted = self.text[self._painted :], len(self.text)
        for body in self.query(MarkdownText):  # none while the dashboard ends
            await body.append(new)

    def _show_thought(self, tokens: int) -> None:
        """Show the end of the thought; one line that tells its length once the answer begins."""
        if not self.thought:
            return
        self.add_class("thinks")
        words = f"thought for {fmt.number(tokens, 'token')}"
        if self._first_s is None and not self.ended:
            words = "\n".join(self.thought.splitlines()[-THOUGHT_LINES:])
        for shown in self.query(".thought").results(Static):  # none while the dashboard ends
            shown.update(words)

    async def end(self, last: Chunk | None, why: str) -> None:
        """Paint the rest, and the figures: the core's if it sent any, else those measured here."""
        self.ended = True
        await self._append()
        self._show_thought((last and last.thought_tokens) or self._thoughts)
        for figures in self.query(".figures").results(Static):
            figures.update(self._figures(last, why))

    def _progress(self, waiting_for: str) -> str:
        elapsed = fmt.duration(time.monotonic() - self._asked_at)
        if self._first_s is None and self.thought:
            return f"thinking  {fmt.number(self._thoughts, 'piece')}  {elapsed}   esc stops"
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
