"""The footer: the views on the left, the keys of the one in front on the right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.style import Style
from rich.text import Text
from textual import events
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from modeldeck.tui.dashboard.commands import Command, keys_of
from modeldeck.tui.dashboard.theme import ink

Entry = tuple[str, Command]
"""Scope and command."""

NARROW = 100
"""Width in cells below which only the view in front is named, to leave room for keys."""

GAP = 2
"""Gap between two parts in cells."""

_BOLD = Style(bold=True)
_HERE = Style(bold=True, reverse=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClickArea:
    """Range of cells that can be clicked."""

    start: int
    end: int
    target: int | Entry
    """The number of a view, or a command."""


class Footer(Widget):
    """Footer line, made from the declarations of the commands."""

    DEFAULT_CSS = """
    Footer { height: 1; background: $panel; color: $foreground; padding: 0 1; }
    """

    current: reactive[int] = reactive(0)
    entries: reactive[tuple[Entry, ...]] = reactive(())
    """Commands in order of importance; those of the app (scope `app`) are last."""

    @dataclass
    class Pressed(Message):
        """A key of the footer was clicked."""

        scope: str
        command: Command

    @dataclass
    class ViewClicked(Message):
        """A view was clicked."""

        number: int

    def __init__(self, titles: Sequence[str], keymap: Mapping[str, str]) -> None:
        super().__init__()
        self._titles = tuple(titles)
        self._keymap = keymap
        self._spots: list[ClickArea] = []

    def render(self) -> Text:
        """Draw the views, then as many keys as fit; the help key is always shown."""
        inks = ink(self.app.theme_variables)
        self._spots = []
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
            line.append(key, inks.primary + _BOLD).append(f" {label}", inks.muted)
            self._spots.append(ClickArea(start=start, end=line.cell_len, target=entry))
        return line

    def _fitting(self, room: int) -> list[Entry]:
        """Entries that fit: the first of the app always, then in their order."""
        everywhere = [entry for entry in self.entries if entry[0] == "app"]
        here = [entry for entry in self.entries if entry[0] != "app"]
        chosen: set[str] = set()
        for scope, command in [*everywhere[:1], *here, *everywhere[1:]]:
            key, label = _words((scope, command), self._keymap)
            cost = len(key) + 1 + len(label) + (GAP if chosen else 0)
            if cost > room:
                break
            room -= cost
            chosen.add(f"{scope}.{command.name}")
        return [e for e in [*here, *everywhere] if f"{e[0]}.{e[1].name}" in chosen]

    def on_click(self, event: events.Click) -> None:
        """Run the command that was clicked."""
        at = event.get_content_offset(self)
        for spot in self._spots:
            if at is not None and spot.start <= at.x < spot.end:
                event.stop()
                if isinstance(spot.target, int):
                    self.post_message(self.ViewClicked(spot.target))
                else:
                    self.post_message(self.Pressed(*spot.target))


def _words(entry: Entry, keymap: Mapping[str, str]) -> tuple[str, str]:
    """The first key of a command, and its label."""
    scope, command = entry
    return next(iter(keys_of(command, scope, keymap)), ""), command.label
