"""The head of a table, and rules between its rows, as lines of text. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.cells import cell_len

from modeldeck.tui.dashboard.widgets.column_choice import ColumnChoice
from modeldeck.tui.dashboard.widgets.columns import ColumnSlot
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text.format import Glyphs

RULE_SIGNS = 2
"""Signs of a rule before its words, and at least after them."""


def head(
    slots: Sequence[ColumnSlot], choice: ColumnChoice, start: int, width: int, glyphs: Glyphs
) -> str:
    """The titles over their columns, which begin `start` cells from the left.

    The sign of the order stands in the gap after its title, so that no title moves for it.
    """
    sign = glyphs.falling if choice.reverse else glyphs.rising
    titles = {
        slot.column.key: slot.column.title + (sign if slot.column.key == choice.sort else "")
        for slot in slots
    }
    return _placed(slots, titles, start, width)


def rule(
    slots: Sequence[ColumnSlot],
    words: str,
    heads: Mapping[str, str],
    start: int,
    width: int,
    glyphs: Glyphs,
) -> tuple[str, str]:
    """A rule with words in it, and beside it the heads of the rows below, by key of the column.

    Heads that have no room beside the words are left out; without any the rule fills the line.
    """
    sign = glyphs.rule
    room = width - 2 * RULE_SIGNS - 2
    text = f"{sign * RULE_SIGNS} {fmt.cut(words, room)} {sign * RULE_SIGNS}"
    taken = cell_len(text)
    below = [slot for slot in slots if slot.column.key in heads and start + slot.x > taken]
    if not below:
        return text + sign * (width - taken), ""
    first = start + below[0].x
    text += sign * (first - 2 - taken)
    return text, _placed(below, heads, start, width)[cell_len(text) :]


def _placed(slots: Sequence[ColumnSlot], titles: Mapping[str, str], start: int, width: int) -> str:
    """Titles at their places: at the right of a column of numbers, a sign behind it in the gap."""
    line = ""
    for slot in slots:
        title = titles[slot.column.key]
        name = fmt.cut(slot.column.title, slot.width) if slot.column.title in title else title
        extra = title[len(slot.column.title) :] if slot.column.title in title else ""
        at = start + slot.x
        if slot.column.right:
            at += max(0, slot.width - cell_len(name))
        if at >= cell_len(line):
            line += " " * (at - cell_len(line)) + name + extra
    return fmt.cut(line, width)


def clicked(slots: Sequence[ColumnSlot], x: int) -> str | None:
    """Key of the column whose head is `x` cells from the left edge of the columns."""
    found = [slot for slot in slots if slot.x <= x <= slot.x + slot.width]
    return found[0].column.key if found else None
