"""The question for a table's columns: which are shown, and the order of its rows.

Each key takes effect at once, so there is nothing to confirm.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from rich.text import Text
from textual.geometry import Size

from modeldeck.tui.dashboard.questions import Question, QuestionKey
from modeldeck.tui.dashboard.theme import ink
from modeldeck.tui.dashboard.widgets.column_choice import STANDARD, hideable, titled
from modeldeck.tui.dashboard.widgets.columns import Column
from modeldeck.tui.dashboard.widgets.prompt import QuestionBody
from modeldeck.tui.dashboard.widgets.table_columns import TableColumns
from modeldeck.tui.text.format import Glyphs

INDENT = 3
"""Cells before each line."""

QUESTION = Question(title="Columns", word="Columns", cancelled="The columns stay as they are now.")

STEPS = {"left": -1, "h": -1, "shift+tab": -1, "right": 1, "l": 1, "tab": 1}


class ColumnChooser(QuestionBody):
    """The columns of a table, those that are not shown behind a dot."""

    DEFAULT_CSS = """
    ColumnChooser { height: auto; max-height: 4; }
    """

    def __init__(self, columns: TableColumns, glyphs: Glyphs) -> None:
        super().__init__()
        self._of_table = columns
        self._glyphs = glyphs
        self.ready = asyncio.Event()
        """Set once it has the focus."""
        self._at = next((column.key for column in titled(columns.all)), "")

    def on_focus(self) -> None:
        """Tell that the keys arrive here from now on."""
        self.ready.set()

    def question_keys(self) -> Sequence[QuestionKey]:
        """Entries of the key line."""
        arrows = f"{self._glyphs.left} {self._glyphs.right}"
        choose = QuestionKey(keys=arrows, label="choose", press="right")
        sort = QuestionKey(
            keys="enter", label="sort, again reverses", short="sort", press="enter", required=True
        )
        return (
            choose,
            *((sort,) if self._of_table.sortable else ()),
            QuestionKey(
                keys="space", label="show/hide", short="show", press="space", required=True
            ),
            QuestionKey(keys="backspace", label="standard", press="backspace"),
            QuestionKey(keys="esc", label="done", press="escape", required=True),
        )

    def press(self, key: str) -> bool:
        """Do what a key does."""
        columns = self._of_table
        if key in STEPS:
            self._move(STEPS[key])
        elif key in ("enter", "o"):
            columns.sort_by(self._at)
        elif key == "space":
            self._toggle()
        elif key == "backspace":
            columns.choose(STANDARD)
        elif key == "q":
            self.post_message(self.Answered(None))
        else:
            return False
        self.refresh(layout=True)
        return True

    @property
    def _columns(self) -> tuple[list[Column], list[Column]]:
        """The columns that are drawn, and those that are not."""
        every, visible = titled(self._of_table.all), self._of_table.drawn
        drawn = [column for column in every if column.key in visible]
        return drawn, [column for column in every if column.key not in visible]

    def _move(self, by: int) -> None:
        drawn, others = self._columns
        keys = [column.key for column in (*drawn, *others)]
        place = keys.index(self._at) if self._at in keys else 0
        self._at = keys[max(0, min(place + by, len(keys) - 1))]

    def _toggle(self) -> None:
        column = next(each for each in self._of_table.all if each.key == self._at)
        if hideable(column):
            visible = self._at in self._of_table.drawn
            self._of_table.choose(self._of_table.choice.toggled(self._at, visible=visible))

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """Number of lines of the columns at this width."""
        return len(self._lines(width))

    def render(self) -> Text:
        """The columns in order."""
        return Text("\n").join(self._lines(self.size.width))

    def _lines(self, width: int) -> list[Text]:
        inks, choice = ink(self.app.theme_variables), self._of_table.choice
        drawn, others = self._columns
        arrow = self._glyphs.falling if choice.reverse else self._glyphs.rising
        lines = [Text(" " * INDENT)]
        for column in (*drawn, *others):
            word = column.title + (arrow if column.key == choice.sort else "")
            style = "bold" if column.key == self._at else inks.muted if column in others else ""
            part = Text(f"[{word}]" if column.key == self._at else f" {word} ", style)
            if others and column is others[0]:
                part = Text.assemble((f" {self._glyphs.dot} ", inks.muted), part)
            if lines[-1].cell_len + part.cell_len > width:
                lines.append(Text(" " * INDENT))
            lines[-1].append_text(part)
        return lines
