"""The footer: the views on the left, the keys of the one in front on the right.

While a question is shown, it is the key line of the question.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from rich.style import Style
from rich.text import Text
from textual import events
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from modeldeck.tui.dashboard.commands import Command, keys_of
from modeldeck.tui.dashboard.questions import QuestionKey, fitting_keys
from modeldeck.tui.dashboard.theme import ink
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text.format import Glyphs

Entry = tuple[str, Command]
"""Scope and command."""

NARROW = 100
"""Width in cells below which only the view in front is named, to leave room for keys."""

GAP = 2
"""Gap between two parts in cells."""
FIRST = 4
"""Keys of the view that come before the second key of the app, where there is little room."""

WORD = 26
"""Most cells of a question's name."""
ALTERNATE_S = 2.0
"""Seconds that title and keys are shown in turn, where they share one line."""

_BOLD = Style(bold=True)
_HERE = Style(bold=True, reverse=True)
_DIM = Style(dim=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClickArea:
    """Range of cells that can be clicked."""

    start: int
    end: int
    target: int | Entry | str
    """The number of a view, a command, or a key of a question."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QuestionFooter:
    """The key line of a question."""

    word: str
    """Name of the question, at the left."""
    keys: tuple[QuestionKey, ...]
    title: str = ""
    """Title of a question that has no other line; it alternates with the keys."""
    pressed: Callable[[str], None] | None = None
    """Called with a key that was clicked, where that is not for the prompt."""


class Footer(Widget):
    """Footer line, made from the declarations of the commands."""

    DEFAULT_CSS = """
    Footer { height: 1; background: $panel; color: $foreground; padding: 0 1; }
    """

    current: reactive[int] = reactive(0)
    entries: reactive[tuple[Entry, ...]] = reactive(())
    """Commands in order of importance; those of the app (scope `app`) are last."""
    question: reactive[QuestionFooter | None] = reactive(None)
    """The question whose keys are shown in place of views and commands."""

    @dataclass
    class Pressed(Message):
        """A key of the footer was clicked."""

        scope: str
        command: Command

    @dataclass
    class ViewClicked(Message):
        """A view was clicked."""

        number: int

    @dataclass
    class QuestionClicked(Message):
        """The key line of a question was clicked; `key` is empty beside its keys."""

        key: str

    def __init__(
        self,
        titles: Sequence[str],
        keymap: Mapping[str, str],
        glyphs: Glyphs,
        is_refused: Callable[[Command], bool] = lambda command: False,
    ) -> None:
        """`is_refused` tells which commands are drawn dim, as they cannot be run."""
        super().__init__()
        self._is_refused = is_refused
        self._titles = tuple(titles)
        self._keymap = keymap
        self._glyphs = glyphs
        self._spots: list[ClickArea] = []
        self._shows_title = False

    def on_mount(self) -> None:
        """Alternate title and keys of a question where both share one line."""
        self.set_interval(ALTERNATE_S, self.alternate)

    def alternate(self) -> None:
        """Show the title of the question in place of its keys, or the keys again."""
        if self.question is not None and self.question.title:
            self._shows_title = not self._shows_title
            self.refresh()

    def watch_question(self, question: QuestionFooter | None) -> None:
        """Begin with the keys: a question is never shown without them."""
        self._shows_title = False

    def render(self) -> Text:
        """Draw the views, then as many keys as fit; the help key is always shown."""
        self._spots = []
        if self.question is not None:
            return self._key_line(self.question)
        inks = ink(self.app.theme_variables)
        line = Text()
        for number, title in enumerate(self._titles):
            here = number == self.current
            narrow = self.size.width < NARROW
            word = f"{number + 1} {title}" if here or not narrow else f"{number + 1}"
            start = line.cell_len
            line.append(f" {word} ", inks.primary + _HERE if here else "")
            self._spots.append(ClickArea(start=start, end=line.cell_len, target=number))
        shown = self._fitting(self.size.width - line.cell_len - GAP)
        keys = [(entry, *_words(entry, self._keymap)) for entry in shown]
        room = sum(len(key) + 1 + len(label) for _, key, label in keys) + GAP * (len(keys) - 1)
        line.append(" " * max(0, self.size.width - line.cell_len - room))
        for i, (entry, key, label) in enumerate(keys):
            line.append(" " * GAP if i else "")
            start = line.cell_len
            style = inks.muted + _DIM if self._is_refused(entry[1]) else inks.primary + _BOLD
            line.append(key, style).append(f" {label}", inks.muted)
            self._spots.append(ClickArea(start=start, end=line.cell_len, target=entry))
        return line

    def _key_line(self, question: QuestionFooter) -> Text:
        """Name and keys of a question, or its title."""
        inks = ink(self.app.theme_variables)
        if self._shows_title:
            return Text(fmt.squeeze(question.title, self.size.width), "bold")
        line = Text.assemble((f" {fmt.cut(fmt.clean(question.word), WORD)} ", inks.primary + _HERE))
        room = self.size.width - line.cell_len - GAP - 1
        keys = [replace(k, keys=fmt.key_words(k.keys, self._glyphs)) for k in question.keys]
        shown = fitting_keys(keys, room)
        words = [f"{key.keys} {label}" for key, label in shown]
        taken = sum(map(fmt.columns, words)) + GAP * (len(words) - 1)
        line.append(" " * max(1, self.size.width - line.cell_len - taken))
        for i, (key, label) in enumerate(shown):
            line.append(" " * GAP if i else "")
            start = line.cell_len
            line.append(key.keys, inks.primary + _BOLD).append(f" {fmt.clean(label)}", inks.muted)
            self._spots.append(ClickArea(start=start, end=line.cell_len, target=key.press))
        line.truncate(self.size.width)
        return line

    def _fitting(self, room: int) -> list[Entry]:
        """Entries that fit, the first of the app always; it stands at the right end."""
        everywhere = [entry for entry in self.entries if entry[0] == "app"]
        here = [entry for entry in self.entries if entry[0] != "app"]
        chosen: set[str] = set()
        order = [*everywhere[:1], *here[:FIRST], *everywhere[1:2], *here[FIRST:], *everywhere[2:]]
        for scope, command in order:
            key, label = _words((scope, command), self._keymap)
            cost = len(key) + 1 + len(label) + (GAP if chosen else 0)
            if cost > room:
                break
            room -= cost
            chosen.add(f"{scope}.{command.name}")
        return [e for e in [*here, *everywhere[::-1]] if f"{e[0]}.{e[1].name}" in chosen]

    def on_click(self, event: events.Click) -> None:
        """Run the command that was clicked."""
        at = event.get_content_offset(self)
        event.stop()
        for spot in self._spots:
            if at is not None and spot.start <= at.x < spot.end:
                match spot.target:
                    case int(number):
                        self.post_message(self.ViewClicked(number))
                    case str(key) if self.question is not None and self.question.pressed:
                        self.question.pressed(key)
                    case str(key):
                        self.post_message(self.QuestionClicked(key))
                    case entry:
                        self.post_message(self.Pressed(*entry))
                return
        if self.question is not None and self.question.pressed is None:
            self.post_message(self.QuestionClicked(""))


def _words(entry: Entry, keymap: Mapping[str, str]) -> tuple[str, str]:
    """The first key of a command, and its label."""
    scope, command = entry
    return next(iter(keys_of(command, scope, keymap)), ""), command.label
