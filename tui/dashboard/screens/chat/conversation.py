"""The turns that are shown: which widgets stand for them, the turn cursor, and following."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.message import Message
from textual.widget import Widget
from textual.widgets import Static

from modeldeck.tui.chats.chat import Chat, ChatTurn
from modeldeck.tui.dashboard.commands import KeyOf
from modeldeck.tui.dashboard.screens.chat.turns import AnswerTurn, QuestionTurn, TurnWidget
from modeldeck.tui.dashboard.theme import ink
from modeldeck.tui.dashboard.widgets.composer import FOLLOW_KEY, Composer
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text.format import Glyphs

SHOWN = 30
"""Turns that are shown at first, the last ones; a long chat opens as quickly as a short one."""
TALL = 30
"""Height of the terminal in lines from which more blank lines stand between parts."""


class FollowLine(Widget):
    """The line below the turns: how many lines are out of sight, and the key that follows.

    While a question is written, letters are no keys: another key is named.
    """

    DEFAULT_CSS = """
    FollowLine { height: 1; padding: 0 0 0 1; }
    """

    def __init__(self, key_of: KeyOf) -> None:
        super().__init__()
        self._key_of = key_of
        self._shown = (0, False)

    def show(self, below: int, *, writing: bool) -> None:
        """Show the number of lines below; nothing for 0."""
        if self._shown != (below, writing):
            self._shown = (below, writing)
            self.refresh()

    def render(self) -> Text:
        """Draw the line."""
        below, writing = self._shown
        if below <= 0:
            return Text()
        key = FOLLOW_KEY if writing else self._key_of("chat.last")
        words = f"v {fmt.number(below, 'line')} below   {key} follows again"
        return Text(words, ink(self.app.theme_variables).accent, no_wrap=True)


class TurnScroll(VerticalScroll):
    """The turns, scrolled; says when what is below changes."""

    DEFAULT_CSS = """
    TurnScroll { height: 1fr; scrollbar-size-vertical: 1; scrollbar-gutter: stable;
                 padding: 1 0 0 0; }
    TurnScroll:focus { background-tint: $foreground 2%; }
    TurnScroll:ansi { background-tint: transparent 0%; }
    """

    class SightChanged(Message):
        """Another part is in sight, or there is more below."""

    following = True
    """Whether the end stays in sight while the answer grows."""

    def follow(self) -> None:
        """Go to the end, and stay there."""
        self.following = True
        self._settle()
        self.scroll_end(animate=False, immediate=True)

    def release_anchor(self) -> None:
        """Stay where one reads; Textual calls this when the user scrolls."""
        self.following = False
        super().release_anchor()
        self.post_message(self.SightChanged())

    def watch_scroll_y(self, old: float, new: float) -> None:
        """Follow again once the user is at the end."""
        super().watch_scroll_y(old, new)
        if not self.following and new > old and 0 < self.max_scroll_y <= new:
            self.following = True
        self.post_message(self.SightChanged())

    def watch_virtual_size(self) -> None:
        """Keep following once there is more than fits."""
        self._settle()
        self.post_message(self.SightChanged())

    def on_resize(self) -> None:
        """Keep following at another height."""
        self._settle()

    def _settle(self) -> None:
        """Anchor to the end only where there is more than fits: less would go to the bottom."""
        overflows = self.virtual_size.height > self.container_size.height
        if self.following and overflows != self.is_anchored:
            self.anchor(overflows)
        if not overflows and self.scroll_y:
            following = self.following
            self.scroll_to(y=0, animate=False, immediate=True, release_anchor=False)
            self.following = following  # Textual releases the anchor all the same


class ConversationPane(Vertical):
    """Shows the path of a chat that its leaf ends, and an answer that is generated."""

    DEFAULT_CSS = """
    ConversationPane { width: 1fr; height: 1fr; }
    ConversationPane #nothing { padding: 0 1; color: $text-muted; height: auto; display: none; }
    ConversationPane #earlier { padding: 0 2 1 2; color: $text-muted; height: auto; display: none; }
    """

    @dataclass
    class TurnMarked(Message):
        """The turn cursor is on another turn; None for none."""

        turn_id: str | None

    def __init__(self, glyphs: Glyphs, key_of: KeyOf) -> None:
        super().__init__()
        self._glyphs = glyphs
        self._key_of = key_of
        self._chat = Chat()
        self._live: AnswerTurn | None = None
        self._all = False
        """Whether all turns of a long chat are shown."""
        self._opened: set[str] = set()
        """Turns whose thought is shown."""
        self._changing = asyncio.Lock()
        self.cursor: str | None = None
        """Id of the turn that is marked; None for the last one."""

    def compose(self) -> ComposeResult:
        """The turns, and the line below them."""
        with TurnScroll(id="turns") as turns:
            turns.can_focus = True
            yield Static(id="nothing", markup=False)
            yield Static(id="earlier", markup=False)
        yield FollowLine(self._key_of)

    @property
    def scroll(self) -> TurnScroll:
        """The part that scrolls."""
        return self.query_one(TurnScroll)

    # What is shown

    async def show(self, chat: Chat, live: AnswerTurn | None = None, hint: str = "") -> None:
        """Show a chat; only turns that are not shown yet are drawn.

        `live` is the answer that is generated, below the others; once the chat has its turn, the
        widget stays for it.
        """
        async with self._changing:
            if not self.is_attached:
                return
            if chat.number != self._chat.number or not self._chat.turns:
                self._all, self._opened = False, set()
            self._chat, self._live = chat, live
            path = chat.path()
            shown = path if self._all else path[-SHOWN:]
            wanted = [turn.id for turn in shown] + ([live.turn.id] if live else [])
            if self.cursor is not None and self.cursor not in [turn.id for turn in path]:
                self._set_cursor(None)
            with self.app.batch_update():
                await self._replace(shown, wanted)
            self._show_hints(len(path) - len(shown), hint if not wanted else "")
            self._mark()

    async def _replace(self, shown: tuple[ChatTurn, ...], wanted: list[str]) -> None:
        """Keep widgets that stand where they should, and replace the others."""
        there = self._widgets()
        same = 0
        while same < min(len(there), len(wanted)) and there[same].turn.id == wanted[same]:
            same += 1
        if same == 0 and there and wanted and there[0].turn.id in wanted[1:]:
            await self._insert_above(shown, there[0].turn.id)
            return
        for widget in there[same:]:
            if widget is not self._live:
                await widget.remove()
        new: list[TurnWidget] = [self._made(turn) for turn in shown[same:]]
        if self._live is not None and not self._live.is_attached:
            new.append(self._live)
        await self.scroll.mount_all(new)

    async def _insert_above(self, shown: tuple[ChatTurn, ...], first: str) -> None:
        """Show earlier turns of a long chat above the others."""
        above = shown[: [turn.id for turn in shown].index(first)]
        await self.scroll.mount_all([self._made(turn) for turn in above], after="#earlier")

    def _made(self, turn: ChatTurn) -> TurnWidget:
        if turn.role == "user":
            return QuestionTurn(turn, self._glyphs)
        made = AnswerTurn(turn, self._glyphs, self._key_of)
        made.set_class(turn.id in self._opened, "opened")
        return made

    def _widgets(self) -> list[TurnWidget]:
        return [w for w in self.scroll.children if isinstance(w, TurnWidget)]

    def _show_hints(self, left_out: int, hint: str) -> None:
        nothing, earlier = self.query_one("#nothing", Static), self.query_one("#earlier", Static)
        nothing.display, earlier.display = bool(hint), left_out > 0
        nothing.update(hint)
        key = self._key_of("chat.first")
        earlier.update(f"{fmt.number(left_out, 'earlier turn')}   {key} shows them")

    def on_resize(self) -> None:
        """Leave out blank lines on a low terminal."""
        self.set_class(self.app.size.height >= TALL, "tall")

    # The turn cursor

    def move_cursor(self, by: int) -> None:
        """Mark the turn after or before the marked one, by default the last; scroll to it."""
        ids = [widget.turn.id for widget in self._widgets()]
        if not ids:
            return
        at = ids.index(self.cursor) if self.cursor in ids else len(ids)
        at = max(0, min(len(ids) - 1, at + by))
        self._set_cursor(ids[at])
        self._mark()
        self.release()
        widget = self._widgets()[at]
        self.scroll.scroll_to_widget(widget, animate=False, top=True, immediate=True)

    def _set_cursor(self, id: str | None) -> None:
        self.cursor = id
        self.post_message(self.TurnMarked(id))

    def put_cursor(self, id: str | None) -> None:
        """Mark this turn; None takes the mark away."""
        if id != self.cursor:
            self._set_cursor(id)
            self._mark()

    def _mark(self) -> None:
        for widget in self._widgets():
            branch = self._chat.branch(widget.turn.id)
            widget.head.show(branch, marked=widget.turn.id == self.cursor)

    # Thoughts

    def fold(self, id: str | None) -> None:
        """Open the thought of this answer, or of the last one that has one; fold an open one."""
        for widget in reversed(self._widgets()):
            if isinstance(widget, AnswerTurn) and widget.thought and id in (None, widget.turn.id):
                self._open(widget, opened=not widget.opened)
                return

    def fold_all(self) -> None:
        """Open all thoughts, or fold them where all are open."""
        answers = [w for w in self._widgets() if isinstance(w, AnswerTurn) and w.thought]
        opened = not all(widget.opened for widget in answers)
        for widget in answers:
            self._open(widget, opened=opened)

    def _open(self, widget: AnswerTurn, *, opened: bool) -> None:
        widget.open_thought(opened=opened)
        (self._opened.add if opened else self._opened.discard)(widget.turn.id)

    # Scrolling

    def follow(self) -> None:
        """Go to the end, and stay there while the answer grows."""
        self.scroll.follow()

    def release(self) -> None:
        """Stay where one reads."""
        self.scroll.release_anchor()

    def move(self, lines: int) -> None:
        """Scroll by a number of lines."""
        self.release()
        self.scroll.scroll_relative(y=lines, animate=False, immediate=True)

    async def first(self) -> None:
        """Go to the first question; show all turns of a long chat."""
        self.release()
        if not self._all and len(self._chat.path()) > SHOWN:
            self._all = True
            await self.show(self._chat, self._live)
        self.scroll.scroll_home(animate=False, immediate=True)

    def turn(self, pages: float) -> None:
        """Scroll by a number of pages."""
        self.move(round(pages * self.scroll.size.height))

    def on_turn_scroll_sight_changed(self) -> None:
        """Show how many lines are below what is in sight."""
        self.show_below()

    def show_below(self) -> None:
        """Show how many lines are below what is in sight, and the key that follows."""
        writing = isinstance(self.app.focused, Composer)
        for scroll in self.query(TurnScroll):
            for line in self.query(FollowLine):  # none while the dashboard ends
                below = 0 if scroll.following else scroll.max_scroll_y - scroll.scroll_y
                line.show(round(below), writing=writing)
