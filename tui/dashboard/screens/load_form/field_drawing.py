"""The fields of the load form as lines of text. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from rich.style import Style
from rich.text import Text

from modeldeck.core.schema import LoadOptions
from modeldeck.tui.dashboard.screens.load_form import wording
from modeldeck.tui.dashboard.screens.load_form.facts import FormFacts, effective
from modeldeck.tui.dashboard.screens.load_form.field_values import context_steps
from modeldeck.tui.dashboard.screens.load_form.fields import FormField
from modeldeck.tui.dashboard.screens.load_form.form_state import FormState, current_field
from modeldeck.tui.dashboard.theme import ThemeStyles
from modeldeck.tui.dashboard.widgets.bars import STRONG
from modeldeck.tui.text import format as fmt
from modeldeck.tui.text.format import Glyphs

VALUE_AT = 15
"""Cell of a field's value."""
NOTE_AT = 24
"""Cell of what stands beside it, at least."""
SLIDER = 30
"""Cells of the slider, at most."""
ORIGIN = 9
"""Cells of the longest word for who decided."""
SLIDER_FROM = 60
"""Width from which on the context has a slider."""
WIDE = 70
"""Width from which on the form has little height: heading and sums share a line each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldPainter:
    """Draws fields for one width."""

    facts: FormFacts
    state: FormState
    width: int
    """Cells of a line."""
    glyphs: Glyphs
    inks: ThemeStyles
    away: bool = False
    """Whether the core does not answer."""

    @property
    def values(self) -> LoadOptions:
        """The options as they would be."""
        return effective(self.facts, self.state.chosen)

    # Fields

    def field_line(self, found: FormField) -> Text:
        """One field: cursor, label, value, what stands beside it, and who decided it."""
        here = found.name == current_field(self.state, self.facts).name
        line = Text()
        line.append(f"{self.glyphs.cursor if here else ' '} ", self.inks.primary)
        line.append(fmt.pad(found.label, VALUE_AT - 2), STRONG if here else self.inks.muted)
        right, style = self._right(found)
        note_end = self.width - fmt.columns(right) - 1
        line.append_text(self._value(found, here=here))
        note_at = (
            max(NOTE_AT, line.cell_len + 1) if found.steps(self.facts, self.values) else NOTE_AT
        )
        if found.name == "more":
            note_at = VALUE_AT
        note = self._note(found, note_end - note_at)
        if note.cell_len:
            line.append(" " * max(0, note_at - line.cell_len)).append_text(note)
        if line.cell_len > note_end:
            line.truncate(max(0, note_end), overflow="ellipsis")
        line.append(" " * max(0, self.width - fmt.columns(right) - line.cell_len))
        line.append(right, style)
        # Without colours: of sixteen, none is readable when it is dim.
        return Text(line.plain, self.inks.muted) if self.away else line

    def _value(self, found: FormField, *, here: bool) -> Text:
        if found.name == "more":
            return Text()
        style = self.inks.primary + STRONG if found.name in self.state.chosen else Style.null()
        if here and self.state.typed:
            text = f"[ {self.state.typed}_ ]"
            return Text(text, self.inks.error if self.state.faulty else self.inks.primary)
        text = found.text(found.value(self.values))
        if not found.steps(self.facts, self.values):
            return Text(fmt.cut(text, 20), style)
        arrows = self.inks.primary if here else self.inks.muted
        left, right = self.glyphs.less, self.glyphs.cursor
        return Text.assemble(
            (f"{left} ", arrows), (fmt.squeeze(text, 22), style), (f" {right}", arrows)
        )

    def _right(self, found: FormField) -> tuple[str, Style]:
        """Who decided a field, at the right."""
        if found.name == "more":
            return "enter", self.inks.muted
        words = wording.origin(self.facts, self.state.chosen, found.name)
        return words, STRONG if words == "yours" else self.inks.muted

    def _note(self, found: FormField, room: int) -> Text:
        """What stands beside a value, cut to the room there is."""
        if room < 4:
            return Text()
        before = wording.was(self.facts, self.state.chosen, found.name)
        if found.name == "context_length":
            return self._context_note(before, room)
        beside = found.note(self.facts, self.values)
        if fmt.columns(beside) > room and found.short_note is not None:
            beside = found.short_note(self.facts, self.values)
        while fmt.columns(beside) > room and "; " in beside:  # no figure without its unit
            beside = beside.rpartition("; ")[0]
        words = ", ".join(word for word in (before, beside) if word)
        if before and fmt.columns(words) > room:
            words = before
        if fmt.columns(words) > room:
            words = words.partition("; ")[0]  # a figure that is cut would be another one
        return Text(fmt.cut(words, room), self.inks.muted)

    def _context_note(self, before: str, room: int) -> Text:
        fits = self._fits()
        if self.width < SLIDER_FROM or before:
            words = ", ".join(word for word in (before, fits) if word)
            return Text(fmt.cut(words, room), self.inks.muted)
        end = "" if self.has_scale_line else f" {fmt.tokens(self.facts.trained)}"
        return self._slider().append(end, self.inks.muted)

    def _fits(self) -> str:
        """The largest context that fits, where that is not the one that is chosen."""
        largest = self.facts.forecasts.largest
        if largest is None or largest == self.values.context_length:
            return ""
        return f"{fmt.tokens(largest)} fits [f]"

    @property
    def has_scale_line(self) -> bool:
        """Whether the figures of the slider have a line of their own, under it."""
        return SLIDER_FROM <= self.width < WIDE

    @property
    def slider_cells(self) -> int:
        """Cells of the slider; the longest origin has room beside it."""
        return min(SLIDER, self.width - NOTE_AT - ORIGIN - 1)

    def _slider(self) -> Text:
        left, rule, right, knob = tuple(self.glyphs.slider)
        inner = self.slider_cells - 2
        signs = [left, *(rule * inner), right]
        marks = (
            (self.facts.forecasts.largest, self.glyphs.reserve, self.inks.warning),
            (self.values.context_length, knob, self.inks.primary),
        )
        styles = {}
        for length, sign, style in marks:
            if (at := self._place(length, inner)) is not None:
                signs[1 + at], styles[1 + at] = sign, style
        line = Text("".join(signs), self.inks.muted)
        for at, style in styles.items():
            line.stylize(Style(dim=False) + style, at, at + 1)
        return line

    def _place(self, length: int | None, inner: int) -> int | None:
        """The cell of a context on the slider: its steps are as far from each other."""
        if length is None:
            return None
        steps = context_steps(self.facts.trained)
        if len(steps) == 1 or length <= steps[0]:
            return 0
        above = next((i for i, step in enumerate(steps) if step >= length), len(steps) - 1)
        low, high = steps[above - 1], steps[above]
        at = above - 1 + min(1.0, (length - low) / (high - low))
        return round(at / (len(steps) - 1) * (inner - 1))

    def scale_line(self) -> Text:
        """The figures under the slider: its ends, and the largest context that fits."""
        cells = self.slider_cells
        steps, largest = context_steps(self.facts.trained), self.facts.forecasts.largest
        left, right = fmt.tokens(steps[0]), fmt.tokens(self.facts.trained)
        figures = list(fmt.pad(left, cells - len(right)) + right)
        words = self._fits()
        least, most = len(left) + 1, cells - len(right) - 1 - len(words)
        line = Text(" " * NOTE_AT)
        if words and least <= most:
            at = self._place(largest, cells - 2) or 0
            start = max(least, min(at + 1 - len(words) // 2, most))
            figures[start : start + len(words)] = words
        return line.append("".join(figures), self.inks.muted)
