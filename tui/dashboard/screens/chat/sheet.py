"""A question of several fields: sampling settings, export. Each field is a line or a choice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import Input

from modeldeck.tui.dashboard.questions import ESCAPE, QuestionKey
from modeldeck.tui.dashboard.theme import ThemeStyles, ink
from modeldeck.tui.dashboard.widgets.bars import TextLines
from modeldeck.tui.dashboard.widgets.prompt import QuestionBody
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text.format import Glyphs

LABEL = 14
"""Cells of the labels, the sign of the cursor included."""
VALUE, PATHS = 18, 40
"""Cells of the values; of those that are paths."""
HINT = 46
"""Cells that a hint or an error needs beside its field, its padding included."""
AROUND = 7
"""Lines of the terminal that fields leave: rule, title, hint, top line, footer, two of the view."""
Values = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class SheetField:
    """A field of a sheet."""

    name: str
    label: str
    value: str
    hint: str = ""
    choices: tuple[str, ...] = ()
    """Values to choose from with `←` and `→`; empty for a line of text."""
    default: str = ""
    """What an empty line stands for."""


class SheetBody(QuestionBody):
    """Fields one below the other; answered with their values as JSON.

    `check` says what is wrong with which field: then the sheet stays, with the reason in the field.
    """

    DEFAULT_CSS = """
    SheetBody > #fields { height: auto; overflow-y: auto;
                          scrollbar-size-vertical: 1; }
    SheetBody .field { height: 1; layout: horizontal; }
    SheetBody .label { width: 15; height: 1; }
    SheetBody Input { width: 18; height: 1; border: none; padding: 0; background: $panel; }
    SheetBody .choice { width: 18; height: 1; }
    SheetBody.paths Input, SheetBody.paths .choice { width: 40; }
    SheetBody .hint { width: 1fr; height: 1; padding: 0 1; }
    SheetBody > #hint { display: none; height: 1; padding: 0 3; }
    SheetBody.below > #hint { display: block; }
    """

    def __init__(
        self,
        fields: Sequence[SheetField],
        check: Callable[[Values], Mapping[str, str]],
        glyphs: Glyphs,
        *,
        verb: str,
        changed: Callable[[Values, str], Values] | None = None,
    ) -> None:
        """`changed` gives further values after the choice of a field was changed."""
        super().__init__()
        self._fields = tuple(fields)
        self._check = check
        self._glyphs = glyphs
        self._verb = verb
        self._changed = changed
        self._at = 0
        self.values = {field.name: field.value for field in fields}
        """The texts of the fields."""
        self.errors: Mapping[str, str] = {}

    def compose(self) -> ComposeResult:
        """A line for each field: label, value, hint or error; below them the hint of one field."""
        with Vertical(id="fields"):
            for field in self._fields:
                with Vertical(classes="field"):
                    yield _line("label", field)
                    if field.choices:
                        yield _line("choice", field)
                    else:
                        yield Input(
                            field.value,
                            placeholder=field.default,
                            compact=True,
                            id=f"in-{field.name}",
                        )
                    yield _line("hint", field)
        yield TextLines(id="hint")

    def on_focus(self) -> None:
        """Give the focus to the field under the cursor; the prompt gives it to the whole body."""
        if not self._fields[self._at].choices:
            self._input(self._fields[self._at]).focus(scroll_visible=False)

    def question_keys(self) -> Sequence[QuestionKey]:
        """Keys of the field under the cursor."""
        field = self._fields[self._at]
        change = (
            (QuestionKey(keys="← →", label="change", press="right"),)
            if field.choices
            else (QuestionKey(keys="ctrl+u", label="default", press="ctrl+u"),)
        )
        return (
            QuestionKey(keys="enter", label=self._verb, press="enter", required=True),
            QuestionKey(keys="tab", label="next", press="tab"),
            *change,
            ESCAPE,
        )

    # Keys

    def press(self, key: str) -> bool:
        """Move between fields, change a choice, edit a line, answer."""
        field = self._fields[self._at]
        if key in ("tab", "down"):
            self.move(1)
        elif key in ("shift+tab", "up"):
            self.move(-1)
        elif key == "enter":
            self._submit()
        elif field.choices and key in ("left", "right", "space", "h", "l"):
            self._choose(field, -1 if key in ("left", "h") else 1)
        elif not field.choices and key in _EDITS:
            self.call_next(self.app.run_action, _EDITS[key], self._input(field))
        else:
            return False
        return True

    def move(self, by: int) -> None:
        """Go to the field `by` places further; the ends meet."""
        self._at = (self._at + by) % len(self._fields)
        field = self._fields[self._at]
        (self if field.choices else self._input(field)).focus(scroll_visible=False)
        self._draw()
        self._show_field()
        self.post_message(self.KeysChanged())

    def _input(self, field: SheetField) -> Input:
        return self.query_one(f"#in-{field.name}", Input)

    def _choose(self, field: SheetField, by: int) -> None:
        at = field.choices.index(self.values[field.name])
        self.values[field.name] = field.choices[(at + by) % len(field.choices)]
        if self._changed is not None:
            self.values |= self._changed(self.values, field.name)
            for other in self._fields:
                if not other.choices:
                    self._input(other).value = self.values[other.name]
        self._draw()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Take the text over, and its error away."""
        event.stop()
        name = (event.input.id or "").removeprefix("in-")
        if event.value != self.values.get(name):
            self.values[name] = event.value
            self.errors = {key: text for key, text in self.errors.items() if key != name}
            self._draw()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Answer."""
        event.stop()
        self._submit()

    def on_click(self, event: events.Click) -> None:
        """Go to the field that was clicked."""
        for place, field in enumerate(self._fields):
            row = self.query_one(f"#label-{field.name}").parent
            if row is not None and event.widget is not None and row in event.widget.ancestors:
                self.move(place - self._at)

    def _submit(self) -> None:
        for field in self._fields:  # what was typed last may not have been announced yet
            if not field.choices:
                self.values[field.name] = self._input(field).value
        self.errors = self._check(self.values)
        if not self.errors:
            self.post_message(self.Answered(msgspec.json.encode(self.values).decode()))
            return
        first = next(n for n, field in enumerate(self._fields) if field.name in self.errors)
        self.move(first - self._at)

    # Drawing

    def draw(self) -> None:
        """Leave room for the rest of the frame; fields that have none are scrolled to."""
        self.query_one("#fields").styles.max_height = max(1, self.app.size.height - AROUND)
        self.call_after_refresh(self._show_field)

    def _show_field(self) -> None:
        label = f"#label-{self._fields[self._at].name}"
        for line in self.query(label):  # none where the question ended meanwhile
            # At once: a scroll that waits for the next picture would undo what a later one needs.
            line.scroll_visible(animate=False, immediate=True)

    def on_resize(self) -> None:
        """Draw the hints where they have room: beside their fields, or below all of them."""
        beside = self.size.width - LABEL - 1 - (PATHS if self.has_class("paths") else VALUE)
        self.set_class(beside < HINT, "below")
        self._draw()

    def _draw(self) -> None:
        inks = ink(self.app.theme_variables)
        for place, field in enumerate(self._fields):
            here = place == self._at
            sign = self._glyphs.cursor if here else " "
            label = Text(f" {sign} {fmt.pad(field.label, LABEL - 3)}", "bold" if here else "")
            self.query_one(f"#label-{field.name}", TextLines).show([label])
            if field.choices:
                value, right = self.values[field.name], self._glyphs.cursor
                left = "<" if right == ">" else "◂"
                words = f"{left} {value} {right}" if here else value
                self.query_one(f"#choice-{field.name}", TextLines).show([Text(words)])
            hint = self._hint(field, inks)
            if here:
                self.query_one("#hint", TextLines).show([hint])
            if self.has_class("below"):
                hint = hint[:1] if field.name in self.errors else Text()
            self.query_one(f"#hint-{field.name}", TextLines).show([hint])

    def _hint(self, field: SheetField, inks: ThemeStyles) -> Text:
        """The hint of a field, or what is wrong with it."""
        if error := self.errors.get(field.name):
            return Text(f"{self._glyphs.failed} {fmt.clean(error)}", inks.error)
        return Text(field.hint, inks.muted)


def _line(part: str, field: SheetField) -> TextLines:
    line = TextLines(id=f"{part}-{field.name}")
    line.add_class(part)
    return line


def answered(answer: str) -> dict[str, str]:
    """The values of an answered sheet."""
    return msgspec.json.decode(answer, type=dict[str, str])


_EDITS = {
    key: binding.action
    for binding in Input.BINDINGS
    if not isinstance(binding, tuple) and binding.action != "submit"
    for key in binding.key.split(",")
}
"""Textual's actions of an Input by key; the prompt takes keys before they reach it."""
