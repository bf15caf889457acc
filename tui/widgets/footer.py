"""The footer: the five views on the left, the keys of the one in front on the right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.text import Text
from textual.reactive import reactive
from textual.widget import Widget

from tui.commands import Command, keys_of

Entry = tuple[str, Command]
"""Scope and command."""


class Footer(Widget):
    """One line, made of the declarations that bind the keys."""

    DEFAULT_CSS = """
    Footer { height: 1; background: $panel; padding: 0 1; }
    """

    current: reactive[int] = reactive(0)
    entries: reactive[tuple[Entry, ...]] = reactive(())

    def __init__(self, titles: Sequence[str], keymap: Mapping[str, str]) -> None:
        super().__init__()
        self._titles = tuple(titles)
        self._keymap = keymap

    def render(self) -> Text:
        """Views, then as many keys as there is room for."""
        line = Text()
        narrow = self.size.width < 80
        for number, title in enumerate(self._titles):
            here = number == self.current
            name = title if here or not narrow else ""
            line.append(f"{number + 1}", "bold" if here else "")
            line.append(f" {name}" if name else "", "reverse" if here else "")
            line.append("  " if not narrow else " ")
        keys = Text()
        for scope, command in self.entries:
            key = keys_of(command, scope, self._keymap)[0]
            part = Text.assemble((key, "bold"), " ", command.label)
            if line.cell_len + keys.cell_len + part.cell_len + 4 > self.size.width:
                break
            keys.append("  " if keys else "").append_text(part)
        gap = self.size.width - line.cell_len - keys.cell_len
        return line.append(" " * max(1, gap)).append_text(keys)
