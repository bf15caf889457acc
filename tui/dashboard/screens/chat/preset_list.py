"""The list of saved system prompts, as a question of its own kind."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from rich.text import Text
from textual.app import ComposeResult

from modeldeck.tui.chats.store import SystemPreset
from modeldeck.tui.dashboard.questions import ESCAPE, QuestionKey
from modeldeck.tui.dashboard.theme import ink
from modeldeck.tui.dashboard.widgets.bars import TextLines
from modeldeck.tui.dashboard.widgets.prompt import QuestionBody
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text.format import Glyphs

NAME = 24
"""Cells of a name."""

PresetVerb = Literal["use", "edit", "save", "delete", "none", "new"]


def parsed(answer: str) -> tuple[PresetVerb, int]:
    """Verb and place of a preset in an answer such as `use 2`."""
    verb, _, place = answer.partition(" ")
    return verb, int(place or 0)  # type: ignore[return-value] # only written by `PresetList`


class PresetList(QuestionBody):
    """Saved prompts to choose from; answered with a verb and the place of one."""

    DEFAULT_CSS = """
    PresetList { height: auto; max-height: 14; overflow-y: auto; scrollbar-size-vertical: 1; }
    PresetList TextLines { height: auto; }
    """

    def __init__(self, presets: Sequence[SystemPreset], current: str, glyphs: Glyphs) -> None:
        """`current` is the system prompt of the chat."""
        super().__init__()
        self._presets = tuple(presets)
        self._current = current
        self._glyphs = glyphs
        rows = [preset.text for preset in presets]
        self._at = rows.index(current) if current in rows else 0

    def compose(self) -> ComposeResult:
        """The lines."""
        yield TextLines()

    def on_mount(self) -> None:
        """Draw them."""
        self._draw()

    on_resize = on_mount

    def question_keys(self) -> Sequence[QuestionKey]:
        """What can be done with the one under the cursor."""
        on_preset = self._at < len(self._presets)
        return (
            QuestionKey(keys="enter", label="use", press="enter", required=True),
            QuestionKey(keys="e", label="edit in $EDITOR", short="edit", press="e"),
            *((QuestionKey(keys="x", label="delete", press="x"),) if on_preset else ()),
            *(
                (QuestionKey(keys="ctrl+s", label="save the current", press="ctrl+s"),)
                if self._current
                else ()
            ),
            ESCAPE,
        )

    def press(self, key: str) -> bool:
        """Move, or answer."""
        last = len(self._presets) + 1
        verb: PresetVerb | None = None
        if key in _MOVES:
            self._at = max(0, min(last, self._at + _MOVES[key]))
            self._draw()
            self.post_message(self.KeysChanged())
            return True
        on_preset = self._at < len(self._presets)
        if key == "enter":
            verb = "use" if on_preset else "new" if self._at == len(self._presets) else "none"
        elif key == "e":
            verb = "edit" if on_preset else "new"
        elif key == "x" and on_preset:
            verb = "delete"
        elif key == "ctrl+s" and self._current:
            verb = "save"
        if verb is None:
            return False
        self.post_message(self.Answered(f"{verb} {self._at}"))
        return True

    def _draw(self) -> None:
        inks, width = ink(self.app.theme_variables), max(20, self.size.width)
        rows = [(preset.name, preset.text) for preset in self._presets]
        rows += [("new…", "write one"), ("none", "no system prompt")]
        lines = []
        for place, (name, about) in enumerate(rows):
            here = place == self._at
            sign = self._glyphs.cursor if here else " "
            line = Text(f" {sign} {fmt.pad(fmt.clean(name), NAME)} ", "bold" if here else "")
            room = width - line.cell_len - 1
            line.append(fmt.cut(" ".join(fmt.clean(about).split()), room), inks.muted)
            lines.append(line)
        self.query_one(TextLines).show(lines)


_MOVES = {"j": 1, "down": 1, "k": -1, "up": -1, "g": -1000, "G": 1000, "home": -1000, "end": 1000}
"""Rows to move by key."""
