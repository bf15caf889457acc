"""The prompt: the one question that is docked above the footer. Not modal.

While it asks it keeps the focus, and the footer shows its keys. What is asked is described by
`modeldeck.tui.dashboard.questions`; a kind with a body of its own (a list of columns, a picker)
hands a `QuestionBody` to `Prompt.ask`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from rich.text import Text
from textual import events, on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message
from textual.widget import Widget
from textual.widgets import ContentSwitcher, Input

from modeldeck.tui.dashboard import questions
from modeldeck.tui.dashboard.diff_renderer import BaseScreen
from modeldeck.tui.dashboard.questions import (
    ChoiceQuestion,
    LineQuestion,
    Question,
    QuestionKey,
    YesNoQuestion,
)
from modeldeck.tui.dashboard.theme import ink
from modeldeck.tui.dashboard.widgets.bars import TextLines, wrapped
from modeldeck.tui.dashboard.widgets.footer import Footer, QuestionFooter
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text.format import Glyphs

NOTE_LINES = 4
"""Most lines below an input."""
ONE_LINE = 6
"""Height of the terminal in lines below which title and keys share one line."""
AROUND = 3
"""Lines that a body leaves beside those of its question: top line, one of the view, footer."""
PASSED_ON = frozenset({"ctrl+c", "ctrl+q", "ctrl+l", "ctrl+z"})
"""Keys of the app that also apply while a question is shown."""
INPUT_KEYS = frozenset(
    key
    for binding in Input.BINDINGS
    for key in (binding[0] if isinstance(binding, tuple) else binding.key).split(",")
)
"""Keys that edit the line."""


class QuestionBody(Vertical, can_focus=True):
    """Body of a question of its own kind: takes the keys, and says which there are."""

    DEFAULT_CSS = """
    QuestionBody { height: auto; }
    """

    @dataclass
    class Answered(Message):
        """The question is answered; None cancels it."""

        answer: str | None

    class KeysChanged(Message):
        """The body has other keys now."""

    @property
    def typed_in(self) -> Widget | None:
        """The text field that takes letters; None where all keys are the body's."""
        return None

    def question_keys(self) -> Sequence[QuestionKey]:
        """Entries of the key line."""
        return (questions.ESCAPE,)

    def draw(self) -> None:
        """Draw for the present size of the terminal."""

    def press(self, key: str) -> bool:
        """Handle a key by Textual's name; False where it has no meaning here."""
        return False


class Prompt(Vertical):
    """Prompt widget: hidden without a question; takes all keys until it is answered."""

    class HelpWanted(Message):
        """`?` was pressed."""

    @dataclass
    class Dropped(Message):
        """A question that waited is not asked any more."""

        question: Question

    DEFAULT_CSS = """
    Prompt { height: auto; display: none; background: $surface; }
    Prompt.asking { display: block; }
    Prompt.ruled { border-top: solid $warning; }
    Prompt > TextLines { height: auto; }
    Prompt > Input { border: none; height: 1; margin: 0 1; background: $surface; display: none; }
    Prompt.writing > Input { display: block; }
    Prompt > #question-note { display: none; }
    Prompt.writing > #question-note { display: block; }
    """

    can_focus = True

    def __init__(self, glyphs: Glyphs) -> None:
        super().__init__()
        self._glyphs = glyphs
        self._question: Question | None = None
        self._body: QuestionBody | None = None
        self._answer: asyncio.Future[str | None] | None = None
        self._free = asyncio.Event()
        self._free.set()
        self._first = 0
        """First line of the list that is shown."""
        self._rows = 0
        self._at = 0
        """Item of a choice that the cursor is on."""
        self._paths = False
        self._error = ""

    def compose(self) -> ComposeResult:
        """The lines of the question, the input, and what is said of the input."""
        yield TextLines(id="question-lines")
        yield Input(compact=True)
        yield TextLines(id="question-note")

    # Asking

    @property
    def question(self) -> Question | None:
        """The question that is shown; None without one."""
        return self._question

    async def ask(self, question: Question, body: QuestionBody | None = None) -> str | None:
        """Show a question until it is answered; None where it is cancelled.

        While another one is shown, a question of the core waits, and any other is not shown.
        """
        if not question.from_core and not self._free.is_set():
            return None
        waited = not self._free.is_set()
        while not self._free.is_set():
            await self._free.wait()
        if waited and question.is_in_view is not None and not question.is_in_view():
            self.post_message(self.Dropped(question))
            return None
        self._free.clear()
        try:
            return await self._ask(question, body)
        finally:
            self._free.set()

    async def _ask(self, question: Question, body: QuestionBody | None) -> str | None:
        screen = cast(BaseScreen, self.screen)
        self._question, self._answer = question, asyncio.get_running_loop().create_future()
        self._first = self._at = 0
        self._paths, self._error = False, ""
        is_line = isinstance(question, LineQuestion)
        if isinstance(question, LineQuestion):
            self._error = question.error
            field = self.query_one(Input)
            field.value = question.value
            field.cursor_position = len(question.value)
        try:
            if body is not None:
                self._body = body
                await self.mount(body, after="#question-lines")
            is_typed = body is not None and body.typed_in is not None
            for part in (self, screen):
                part.set_class(is_line, "writing", update=False)
                part.set_class(is_typed, "typing", update=False)
                part.add_class("asking", update=False)
            self._update_frame()
            self.draw()
            screen.keep_focus(self, self._first_focus(body, is_line=is_line))
            return await self._answer
        finally:
            self._question = self._answer = self._body = None
            if self.is_attached:
                self.remove_class("asking", "writing", "typing", "ruled", update=False)
                screen.remove_class("asking", "writing", "typing", update=False)
                self._update_frame()
                for footer in screen.query(Footer):  # none where the app ends
                    footer.question = None
                screen.release_focus()
                if body is not None:
                    await body.remove()

    def _update_frame(self) -> None:
        """Apply the styles of a question to the frame.

        No style of a view depends on it, and going through the widgets of all views took longer
        than everything else that a key which asks does.
        """
        for part in self.screen.children:
            if not isinstance(part, ContentSwitcher):
                part.update_node_styles()

    def _first_focus(self, body: QuestionBody | None, *, is_line: bool) -> Widget:
        """The widget that takes the keys of a question."""
        if body is not None:
            return body.typed_in or body
        return self.query_one(Input) if is_line else self

    def _settle(self, answer: str | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(answer)

    def call_off(self) -> Question | None:
        """Cancel the question, as `esc` does; the question, or None without one."""
        question = self._question if self._answer and not self._answer.done() else None
        self._settle(None)
        return question

    # Drawing

    def draw(self) -> None:
        """Draw the question for the present size of the terminal, and its keys."""
        question = self._question
        if question is None:
            return
        width, height = self.app.size
        if height < ONE_LINE:
            self.remove_class("ruled")
            has_line = height > 1 and question.title
            lines = [self._title(question, width)] if has_line else []
        else:
            lines = self._lines(question, width, height)
        self.query_one("#question-lines", TextLines).show(lines)
        self._draw_note(question, width)
        if self._body is not None:
            around = AROUND + len(lines) + self.has_class("ruled")
            self._body.styles.max_height = max(1, height - around)
            self._body.draw()
        self.show_keys()

    def show_keys(self) -> None:
        """Show the keys of the question in the footer."""
        question = self._question
        if question is None:
            return
        keys = self._body.question_keys() if self._body is not None else question.keys
        title = fmt.clean(question.title) if self.app.size.height == 1 else ""
        self.screen.query_one(Footer).question = QuestionFooter(
            word=questions.word_of(question), keys=tuple(keys), title=title
        )

    def _lines(self, question: Question, width: int, height: int) -> list[Text]:
        inks = ink(self.app.theme_variables)
        extra = 2 if isinstance(question, LineQuestion) else 0
        plan = questions.layout(question, height, extra)
        self.set_class(plan.rule, "ruled")
        self._rows = plan.rows
        self._first = max(0, min(self._first, len(question.items) - plan.rows))
        lines = [self._title(question, width)] if question.title else []
        warned = questions.warning_lines(question, plan.warnings, width)
        lines += [Text(words, inks.warning) for words in warned]
        chooses = isinstance(question, ChoiceQuestion)
        for place in range(self._first, self._first + plan.rows):
            item = question.items[place]
            room = width - CHOICE if chooses else width
            words = questions.item_line(item, room, paths=self._paths)
            if chooses:
                sign = self._glyphs.cursor if place == self._at else " "
                number = str(place + 1) if place < 9 else " "
                words = f" {sign} {number}  {words.lstrip()}"
                words = fmt.squeeze(words, width)
            lines.append(Text(words, "bold" if chooses and place == self._at else ""))
        if plan.foot:
            words = questions.foot_line(question, self._first, plan.rows, width, paths=self._paths)
            lines.append(Text(words, inks.muted))
        return lines

    def _title(self, question: Question, width: int) -> Text:
        return Text(fmt.squeeze(f" {fmt.clean(question.title)}", width), "bold")

    def _draw_note(self, question: Question, width: int) -> None:
        if not isinstance(question, LineQuestion) or self.app.size.height < ONE_LINE:
            self.query_one("#question-note", TextLines).show([])
            return
        inks = ink(self.app.theme_variables)
        if self._error:
            words, style = f"{self._glyphs.failed} {self._error}", inks.error
        else:
            words, style = question.hint, inks.muted
        room = max(1, min(NOTE_LINES, self.app.size.height // 2 - 3))
        lines = wrapped(Text(f" {fmt.clean(words)}", style), width - 1, 1)
        if len(lines) > room:
            lines = [Text(fmt.squeeze(f" {fmt.clean(words)}", width), style)]
        self.query_one("#question-note", TextLines).show(lines)

    def on_mount(self) -> None:
        """Draw again when the theme changes."""
        self.app.theme_changed_signal.subscribe(self, lambda _: self.draw())

    def on_unmount(self) -> None:
        """Cancel the question with the app."""
        self._settle(None)

    # Keys

    def on_key(self, event: events.Key) -> None:
        """Take every key while a question is shown."""
        if self._answer is None or event.key in PASSED_ON:
            return
        writing = self.has_class("writing") or (
            self._body is not None and self._body.typed_in is not None
        )
        if writing and event.key in INPUT_KEYS and event.key != "escape":
            return
        event.stop()
        event.prevent_default()
        self.press(event.key)

    def press(self, key: str) -> None:
        """Handle a key, by Textual's name; keys without a meaning do nothing."""
        question = self._question
        if question is None or (self._body is not None and self._body.press(key)):
            return
        writing = isinstance(question, LineQuestion)
        if key == "escape":
            self._settle(None)
        elif key == "enter" and writing:
            self._submit(self.query_one(Input).value)
        elif writing or self._body is not None:
            return
        elif key == "question_mark":
            self.post_message(self.HelpWanted())
        elif key in ("q", "n"):
            self._settle(None)
        elif isinstance(question, YesNoQuestion) and key == "y":
            self._settle("y")
        elif isinstance(question, ChoiceQuestion) and self._choose(question, key):
            return
        elif key == "e" and question.has_paths:
            self._paths = not self._paths
            self.draw()
        elif (by := _SCROLL.get(key)) is not None:
            self._scroll(by)

    def _choose(self, question: ChoiceQuestion, key: str) -> bool:
        """Handle a key of a choice; False where it is none."""
        if key.isdecimal() and 1 <= int(key) <= len(question.items):
            self._settle(key)
        elif key == "enter":
            self._settle(str(self._at + 1))
        elif (by := _SCROLL.get(key)) is not None:
            last = len(question.items) - 1
            self._at = max(0, min(last, self._at + self._lines_of(by)))
            self._first = max(min(self._first, self._at), self._at - max(1, self._rows) + 1)
            self.draw()
        else:
            return False
        return True

    def _scroll(self, by: tuple[int, float]) -> None:
        self._first += self._lines_of(by)
        self.draw()

    def _lines_of(self, by: tuple[int, float]) -> int:
        lines, pages = by
        return lines + round(pages * max(1, self._rows))

    def on_mouse_scroll_down(self, event: events.MouseScrollDown) -> None:
        """Scroll the list."""
        event.stop()
        self._scroll((1, 0.0))

    def on_mouse_scroll_up(self, event: events.MouseScrollUp) -> None:
        """Scroll the list."""
        event.stop()
        self._scroll((-1, 0.0))

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._submit(event.value)

    def _submit(self, text: str) -> None:
        """Answer with the line, or say what is wrong with it."""
        question = self._question
        if isinstance(question, LineQuestion) and question.problem is not None:
            self._error = question.problem(text)
            if self._error:
                self._draw_note(question, self.app.size.width)
                return
        self._settle(text)

    @on(Input.Changed)
    def _changed(self, event: Input.Changed) -> None:
        """Show the hint again once the line is edited."""
        event.stop()
        question = self._question
        if self._error and isinstance(question, LineQuestion) and event.value != question.value:
            self._error = ""
            self._draw_note(question, self.app.size.width)

    @on(QuestionBody.Answered)
    def _answered(self, event: QuestionBody.Answered) -> None:
        event.stop()
        self._settle(event.answer)

    @on(QuestionBody.KeysChanged)
    def _keys_changed(self, event: QuestionBody.KeysChanged) -> None:
        event.stop()
        self.show_keys()

    def contains(self, widget: Widget | None) -> bool:
        """Whether a widget is part of the prompt."""
        return widget is not None and self in widget.ancestors_with_self


CHOICE = 3
"""Cells that the sign and the number of a choice take, besides the indent of a list."""
END = 1 << 20
"""Lines that are more than any list has."""
_SCROLL = {
    "j": (1, 0.0),
    "down": (1, 0.0),
    "k": (-1, 0.0),
    "up": (-1, 0.0),
    "ctrl+d": (0, 0.5),
    "ctrl+u": (0, -0.5),
    "pagedown": (0, 1.0),
    "space": (0, 1.0),
    "pageup": (0, -1.0),
    "g": (-END, 0.0),
    "home": (-END, 0.0),
    "G": (END, 0.0),
    "end": (END, 0.0),
}
"""Lines and pages to scroll, by key."""
