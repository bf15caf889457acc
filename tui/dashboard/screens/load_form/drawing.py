"""The load form as lines of text, for any size. Pure.

Title and forecast stand still; where there is no room for all fields, they scroll between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich.style import Style
from rich.text import Text

from modeldeck.tui.dashboard.screens.load_form import wording
from modeldeck.tui.dashboard.screens.load_form.field_drawing import VALUE_AT, WIDE
from modeldeck.tui.dashboard.screens.load_form.fields import FormField, shown_fields
from modeldeck.tui.dashboard.screens.load_form.forecast_drawing import Painter
from modeldeck.tui.dashboard.screens.load_form.form_state import current_field
from modeldeck.tui.dashboard.screens.load_form.ways import ways
from modeldeck.tui.dashboard.widgets.bars import STRONG
from modeldeck.tui.text import format as fmt

SMALL = 12
"""Height of the form up to which only the most important lines are shown."""
LEAST_FIELDS = 3
"""Fields that are shown at any height."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """A place that can be clicked."""

    line: int
    start: int
    end: int
    key: str = ""
    """Key that the click stands for."""
    field: str = ""
    """Field that it selects."""


@dataclass(slots=True, kw_only=True)
class Drawing:
    """Lines of the form, and where they can be clicked."""

    lines: list[Text] = field(default_factory=list)
    spots: list[Spot] = field(default_factory=list)


def draw(painter: Painter, height: int, pad: int = 0) -> Drawing:
    """The form in `height` lines, each `pad` cells from the left."""
    low = height <= SMALL
    facts, state = painter.facts, painter.state
    drawing = Drawing(lines=_heading(painter, low=low, tall=painter.width < WIDE))
    found = shown_fields(facts, painter.values, unfolded=state.unfolded)
    choices = ways(facts)
    docked = painter.forecast_lines(low=low)
    if choices:
        docked += ([] if low else [Text()]) + painter.way_lines(choices)[int(low) :]
    first_way = len(docked) - len(choices)
    room = height - len(drawing.lines) - 1
    docked = docked[: max(1, room - LEAST_FIELDS)]
    space = room - len(docked)
    rows = _field_rows(painter, found)
    if len(rows) + 2 <= space:
        notes = painter.note_lines(space - len(rows) - 1)
        docked += [Text(), *notes] if notes else []
    _add_fields(drawing, painter, rows, min(len(rows), space), pad)
    drawing.lines.append(Text())
    start = len(drawing.lines)
    drawing.lines += docked
    for number in range(1, len(choices) + 1):
        at = start + first_way + number - 1
        drawing.spots.append(Spot(line=at, start=0, end=1000, key=str(number)))
    for line in drawing.lines[1:]:
        if pad and line.plain:
            line.pad_left(pad)
    del drawing.lines[height:]
    return drawing


def _heading(painter: Painter, *, low: bool, tall: bool) -> list[Text]:
    facts, inks = painter.facts, painter.inks
    title = Text(" ").append(fmt.squeeze(wording.title(facts), painter.width - 2), STRONG)
    beside = wording.as_loaded(facts)
    sub = wording.subtitle(facts)
    if low:
        if beside and title.cell_len + fmt.columns(beside) + 1 <= painter.width:
            title.append(f" {beside}", inks.muted)
        return [title]
    if tall:
        if beside and title.cell_len + fmt.columns(beside) + 2 <= painter.width:
            title.append(f"  {beside}", inks.muted)
        return [title, Text(fmt.cut(sub, painter.width), inks.muted), Text()]
    words = f"{beside} · {sub}" if beside else sub
    room = painter.width - title.cell_len - 2
    while fmt.columns(words) > room and " · " in words:
        words = words.rpartition(" · ")[0]
    title.append(f"  {fmt.cut(words, room)}" if room > 8 else "", inks.muted)
    return [title, Text()]


def _field_rows(painter: Painter, found: Sequence[FormField]) -> list[tuple[str, Text]]:
    """Lines of the fields, each with its field's name; empty for a line below a field."""
    rows: list[tuple[str, Text]] = []
    here = current_field(painter.state, painter.facts).name
    for one in found:
        rows.append((one.name, painter.field_line(one)))
        is_changed = wording.was(painter.facts, painter.state.chosen, one.name)
        if one.name == "context_length" and painter.has_scale_line and not is_changed:
            rows.append(("", painter.scale_line()))
        said = painter.facts.forecasts.faulty == one.name
        if one.name == here and painter.state.note:
            style = painter.inks.error if painter.state.faulty else painter.inks.muted
            rows.append(("", _under(painter.state.note, painter.width, style)))
        elif said and painter.facts.forecasts.failure:
            words = painter.facts.forecasts.failure
            rows.append(("", _under(words, painter.width, painter.inks.error)))
    return rows


def _under(words: str, width: int, style: Style) -> Text:
    return Text(" " * VALUE_AT).append(fmt.cut(fmt.clean(words), width - VALUE_AT), style)


def _add_fields(
    drawing: Drawing, painter: Painter, rows: Sequence[tuple[str, Text]], room: int, pad: int
) -> None:
    """Add as many rows as there is room for, around the cursor; say where in the form they are."""
    here = current_field(painter.state, painter.facts).name
    at = next((i for i, (name, _) in enumerate(rows) if name == here), 0)
    with_note = at + 1 < len(rows) and not rows[at + 1][0]
    first = max(0, min(at + int(with_note) - room + 1, len(rows) - room))
    if at < first:
        first = at
    shown = rows[first : first + room]
    for name, line in shown:
        place = len(drawing.lines)
        if name:
            drawing.spots += _field_spots(name, line, place, pad)
        drawing.lines.append(line)
    if room < len(rows) and shown:
        names = [name for name, _ in rows if name]
        last = max((names.index(name) for name, _ in shown if name), default=0) + 1
        sign = f"{painter.glyphs.below}" if last < len(names) else " "
        words = f"{last} of {len(names)} {sign}"
        line = drawing.lines[-1]
        keep = painter.width - len(words) - 1
        line.truncate(keep)
        line.append(" " * (keep + 1 - line.cell_len)).append(words, painter.inks.muted)


def _field_spots(name: str, line: Text, place: int, pad: int) -> list[Spot]:
    """A click on an arrow steps, one anywhere else on the line selects the field."""
    spots = []
    for sign, key in (("◂", "left"), ("▸", "right"), ("<", "left"), (">", "right")):
        at = line.plain.find(sign, VALUE_AT)
        if at >= 0:
            spots.append(
                Spot(line=place, start=pad + at - 1, end=pad + at + 2, key=key, field=name)
            )
    return [*spots, Spot(line=place, start=0, end=1000, field=name)]
