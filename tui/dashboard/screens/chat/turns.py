"""Widgets for the turns of a conversation: questions, and answers while they are generated."""

from __future__ import annotations

import time
from dataclasses import dataclass

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static

from modeldeck.core.schema import Chunk
from modeldeck.tui.chats.answers import AnswerRecorder
from modeldeck.tui.chats.attachments import described
from modeldeck.tui.chats.chat import ChatFigures, ChatTurn
from modeldeck.tui.dashboard.commands import KeyOf
from modeldeck.tui.dashboard.screens.chat import messages as words
from modeldeck.tui.dashboard.theme import ink
from modeldeck.tui.dashboard.widgets.markdown import AnswerMarkdown
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text.format import Glyphs

PAINT_S = 0.1
"""Seconds between two paints of an answer that is generated."""
PAINT_SHARE = 0.25
"""Largest share of time for painting; the rest is left for keys, even for long answers."""

BRANCH_KEYS_FROM = 60
"""Width in cells from which the keys stand beside the number of a branch."""


class TurnHead(Widget):
    """First line of a turn: who, and at the right the branch, or the time."""

    DEFAULT_CSS = """
    TurnHead { height: 1; padding: 0; }
    """

    def __init__(self, turn: ChatTurn, name: str, glyphs: Glyphs) -> None:
        super().__init__()
        self._turn = turn
        self._who = fmt.clean(name)
        self._glyphs = glyphs
        self._branch = (1, 1)
        self._marked = False

    def show(self, branch: tuple[int, int], *, marked: bool) -> None:
        """Show the place among siblings, and whether the turn is marked."""
        if (branch, marked) != (self._branch, self._marked):
            self._branch, self._marked = branch, marked
            self.refresh()

    def render(self) -> Text:
        """Draw the line."""
        inks, width = ink(self.app.theme_variables), self.size.width
        style = inks.accent if self._turn.role == "user" else inks.primary
        right = self._right(width)
        sign = self._glyphs.cursor if self._marked else " "
        name = fmt.squeeze(self._who, max(1, width - fmt.columns(right) - 2))
        line = Text.assemble((sign, inks.accent), (name, style), no_wrap=True)
        line.stylize("bold", 1)
        line.append(" " * max(1, width - line.cell_len - fmt.columns(right)))
        return line.append(right, inks.muted)

    def _right(self, width: int) -> str:
        at, count = self._branch
        if count > 1:
            keys = " [ ]" if width >= BRANCH_KEYS_FROM else ""
            return f"‹ {at} of {count} ›{keys}"  # noqa: RUF001 (signs of a branch)
        if self._turn.role == "user" and width >= BRANCH_KEYS_FROM and self._turn.at:
            return fmt.time_of_day(self._turn.at)
        return ""


class TurnWidget(Vertical):
    """One turn of a conversation."""

    DEFAULT_CSS = """
    TurnWidget { height: auto; margin: 0 0 1 0; max-width: 102; }
    TurnWidget .said { height: auto; padding: 0 0 0 2; }
    TurnWidget .files { height: auto; padding: 0 0 0 2; color: $text-muted; }
    """

    @dataclass
    class Clicked(Message):
        """A turn was clicked."""

        turn_id: str

    def __init__(self, turn: ChatTurn, name: str, glyphs: Glyphs) -> None:
        super().__init__()
        self.turn = turn
        """The turn as it is in the chat; of an answer that is generated, as far as it came."""
        self.head = TurnHead(turn, name, glyphs)
        self._glyphs = glyphs

    def on_click(self, event: events.Click) -> None:
        """Mark the turn."""
        self.post_message(self.Clicked(self.turn.id))


class QuestionTurn(TurnWidget):
    """A message of the user, shown as plain text, with its files."""

    def __init__(self, turn: ChatTurn, glyphs: Glyphs) -> None:
        super().__init__(turn, "you", glyphs)

    def compose(self) -> ComposeResult:
        """Heading, text and files."""
        yield self.head
        if self.turn.text:
            yield Static(Text(fmt.clean(self.turn.text, lines=True)), classes="said")
        for file in self.turn.attachments:
            yield Static(
                f"{fmt.clean(file.name)}   {described(file)}", classes="files", markup=False
            )


class AnswerTurn(TurnWidget):
    """An answer, shown as markdown while it is generated, with its figures below."""

    DEFAULT_CSS = """
    AnswerTurn .thought { height: 1; padding: 0 0 0 2; color: $text-muted; display: none; }
    AnswerTurn .thoughts { height: auto; padding: 0 0 1 2; color: $text-muted; display: none; }
    AnswerTurn AnswerMarkdown { padding: 0 0 0 2; }
    AnswerTurn .figures { color: $text-muted; height: auto; padding: 0 0 0 2; }
    AnswerTurn.thinks .thought { display: block; }
    AnswerTurn.thinks.opened .thoughts { display: block; }
    AnswerTurn AnswerMarkdown > *:last-child { margin: 0; }
    """

    def __init__(
        self, turn: ChatTurn, glyphs: Glyphs, key_of: KeyOf, *, live: bool = False
    ) -> None:
        """With `live` the answer is still to come, from `add`."""
        super().__init__(turn, turn.model or "model", glyphs)
        self.ended = not live
        self._parts = AnswerRecorder()
        self._parts.text = fmt.clean(turn.text, lines=True)
        self._parts.thought = fmt.clean(turn.thought, lines=True)
        self._key_of = key_of
        self._painted = len(self.text)
        self._rest_until = 0.0

    def compose(self) -> ComposeResult:
        """Heading, thought, text and figures."""
        yield self.head
        yield Static(classes="thought", markup=False)
        yield Static(Text(self.thought), classes="thoughts")
        yield AnswerMarkdown(self.text, self._key_of("chat.copy_block"))
        yield Static(classes="figures", markup=False)

    def on_mount(self) -> None:
        """Show the lines around the text."""
        self._show_lines("")

    def on_resize(self) -> None:
        """Shorten the figures where they do not fit."""
        if self.ended:
            self._show_lines("")

    # While it comes

    @property
    def text(self) -> str:
        """The text so far, without terminal control characters."""
        return self._parts.text

    @property
    def thought(self) -> str:
        """What it thinks before it answers, without terminal control characters."""
        return self._parts.thought

    @property
    def last(self) -> Chunk | None:
        """The piece with the counts; None before it came."""
        return self._parts.last

    @property
    def pieces(self) -> int:
        """Pieces of the text that came: about as many tokens."""
        return self._parts.pieces

    def add(self, chunk: Chunk) -> None:
        """Append a chunk; the next `paint` shows it."""
        self._parts.add(chunk)

    async def paint(self, waiting_for: str = "") -> None:
        """Show new text, unless painting takes more than its share of time."""
        now = time.monotonic()
        if now < self._rest_until or self.ended:
            return
        await self._append()
        self._show_lines(waiting_for)
        took = time.monotonic() - now
        self._rest_until = now + max(PAINT_S, took / PAINT_SHARE)

    async def _append(self) -> None:
        """Paint the text that is not shown yet."""
        new, self._painted = self.text[self._painted :], len(self.text)
        if new:
            for body in self.query(AnswerMarkdown):  # none while the dashboard ends
                await body.append(new)

    def turned(self, turn: ChatTurn) -> ChatTurn:
        """The finished turn: text, and the core's figures, else those measured here."""
        return self._parts.turned(turn)

    async def end(self, turn: ChatTurn) -> None:
        """Paint the rest, and the figures."""
        self.ended, self.turn = True, turn
        await self._append()
        self._show_lines("")

    # Lines around the text

    @property
    def opened(self) -> bool:
        """Whether the thought is shown as well."""
        return self.has_class("opened")

    def open_thought(self, *, opened: bool) -> None:
        """Show the thought, or one line in its place."""
        self.set_class(opened, "opened")
        self._show_lines("")

    def _show_lines(self, waiting_for: str) -> None:
        self.set_class(bool(self.thought), "thinks")
        for line in self.query(".thought").results(Static):  # none while the dashboard ends
            line.update(self._thought_line())
        if self.opened:
            for whole in self.query(".thoughts").results(Static):
                whole.update(Text(self.thought.strip()))
        for figures in self.query(".figures").results(Static):
            figures.update(self._ending() if self.ended else self._progress(waiting_for))

    def _thought_line(self) -> str:
        if not self.thought:
            return ""
        parts = self._parts
        if parts.first_at is None and not self.ended:
            count = fmt.number(parts.thought_tokens, "token")
            return f"thinking {fmt.duration(parts.thought_s)}, {count}"
        figures = self.turn.figures
        if not self.ended:
            figures = ChatFigures(thought_s=parts.thought_s, thought_tokens=parts.thought_tokens)
        key = self._key_of("chat.thought")
        return words.thought_line(figures, key, opened=self.opened)

    def _progress(self, waiting_for: str) -> str:
        parts = self._parts
        elapsed = fmt.span(time.monotonic() - parts.asked_at)
        if parts.first_at is None and self.thought:
            return f"{elapsed}   esc stops"
        if parts.first_at is None:
            return f"{waiting_for or 'reading your question'}   {elapsed}   esc stops"
        spent = time.monotonic() - parts.first_at
        count = parts.pieces
        rate = f"{(count - 1) / spent:.1f} tok/s" if count > 1 and spent > 0 else ""
        shown = ["writing", rate, fmt.number(count, "token"), elapsed, "esc stops"]
        return "   ".join(part for part in shown if part)

    def _ending(self) -> str:
        width, dot = self.size.width - 2, f" {self._glyphs.dot} "
        parts = words.figures_line(self.turn.figures, self._glyphs, width)
        why = words.ending(self.turn, self._glyphs, self._key_of)
        line = dot.join((*parts, why) if why else parts)
        if why and parts and fmt.columns(line) > width:
            return f"{dot.join(parts)}\n{why}"
        return line
