"""The forecast of the load form as lines of text: gauges, sums, and what fits instead. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.style import Style
from rich.text import Text

from modeldeck.tui.dashboard.screens.load_form import gauges, wording
from modeldeck.tui.dashboard.screens.load_form.field_drawing import WIDE, FieldPainter
from modeldeck.tui.dashboard.screens.load_form.ways import Way
from modeldeck.tui.dashboard.screens.memory.gauge import DeviceUse
from modeldeck.tui.dashboard.widgets.bars import STRONG, wrapped
from modeldeck.tui.text import format as fmt

GAUGE_AT = 6
"""Cell at which a gauge begins."""
GAUGE = 53
"""Cells of a gauge, at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Painter(FieldPainter):
    """Draws fields and forecast for one width."""

    def forecast_lines(self, *, low: bool) -> list[Text]:
        """Gauges, the sum, what it rests on, and what is unloaded first."""
        facts = self.facts
        if not facts.single:
            return self._several()
        plan = facts.plan
        over = facts.forecasts.over and plan is not None
        if plan is None or plan.forecast is None:
            words = fmt.clean(wording.no_plan(facts))
            if low:
                return [Text(fmt.cut(words, self.width), self._failed_ink())]
            return wrapped(Text(words, self._failed_ink()), self.width)
        drawn = gauges.uses(facts.state, plan)
        wait = Text(" …" if facts.forecasts.stale else "", self.inks.muted)
        verdict = wording.verdict(plan, over=over)
        style = self.inks.error if over else self.inks.success
        if low:
            return self._low(drawn, verdict, style, wait)
        cells = min(GAUGE, self.width - 16)
        lines = []
        if not over and drawn:
            lines.append(
                Text(" " * GAUGE_AT).append_text(
                    gauges.labels(drawn[0], cells, self.glyphs, self.inks)
                )
            )
        for use in drawn:
            one = gauges.line(use, plan, cells, self.glyphs, self.inks, over=over)
            lines.append(Text.assemble((f"{use.name:<{GAUGE_AT}}", STRONG)).append_text(one))
        if self.width < WIDE and not over:
            lines += wrapped(Text(wording.items(plan), self.inks.muted), self.width)
        sums = Text.assemble((wording.total(plan), STRONG), "   ", (verdict, style))
        basis = fmt.clean(wording.basis(plan))
        if over and self.width >= WIDE:
            basis = basis.partition(";")[0]  # the ways need the lines
        if sums.cell_len + fmt.columns(basis) + 5 <= self.width:
            lines.append(sums.append(f"   {basis}", self.inks.muted).append_text(wait))
        else:
            lines += [sums.append_text(wait), Text(fmt.cut(basis, self.width), self.inks.muted)]
        first = self._first()
        return [*lines, *([Text()] if first and self.width < WIDE else []), *first]

    def _low(
        self, drawn: Sequence[DeviceUse], verdict: str, style: Style, wait: Text
    ) -> list[Text]:
        plan = self.facts.plan
        assert plan is not None
        word = verdict.partition(":")[0]
        words = Text.assemble(
            (f" {wording.total(plan).partition(',')[0].removeprefix('= ')} ", STRONG), (word, style)
        ).append_text(wait)
        if not drawn:
            return [words, *self._first()[-1:]]
        cells = max(8, self.width - 4 - max(17, words.cell_len))
        use = drawn[-1] if plan.forecast is not None and plan.forecast.gpu_bytes else drawn[0]
        over = self.facts.forecasts.over
        one = gauges.line(use, plan, cells, self.glyphs, self.inks, over=over)
        name = Text(f"{use.name.split(' ')[0]:<4}", STRONG)
        return [name.append_text(one).append_text(words), *self._first()[-1:]]

    def _failed_ink(self) -> Style:
        return self.inks.error if self.facts.forecasts.failure else self.inks.muted

    def _first(self) -> list[Text]:
        found = wording.first(self.facts)
        if self.facts.forecasts.over:
            return []
        if not found:
            return [Text("nothing is unloaded for it", self.inks.muted)]
        return [
            Text.assemble(
                ("first  " if i == 0 else "       ", self.inks.muted),
                (fmt.cut(words, self.width - 7), self.inks.warning),
            )
            for i, words in enumerate(found)
        ]

    def _several(self) -> list[Text]:
        """The plan of each of several models, one line each."""
        facts = self.facts
        if not facts.forecasts.plans:
            return [Text(fmt.cut(wording.no_plan(facts), self.width), self._failed_ink())]
        wait = " …" if facts.forecasts.stale else ""
        lines = [Text(f"each with these options, one after the other{wait}", self.inks.muted)]
        forecasts = facts.forecasts
        rows = zip(facts.targets, forecasts.plans, forecasts.problems, strict=False)
        for target, plan, problem in rows:
            over, words = wording.several(plan, problem)
            needs = fmt.UNKNOWN
            if plan is not None and plan.forecast is not None:
                needs = fmt.memory(plan.forecast.total_bytes)
            name = fmt.pad(fmt.squeeze(fmt.clean(target.title), 24), 26)
            style = self.inks.error if over else self.inks.success
            lines.append(
                Text.assemble(f"{name}{needs:>9}  ", (fmt.cut(words, self.width - 37), style))
            )
        return lines

    def way_lines(self, found: Sequence[Way]) -> list[Text]:
        """What fits instead, numbered."""
        take = fmt.key_words("   ↑ ↓ and enter take one", self.glyphs)
        head = (
            Text.assemble(("What fits instead", STRONG), (take, self.inks.muted))
            if len(found) > 1
            else Text("Nothing smaller of it fits", STRONG)
        )
        name = max((fmt.columns(way.text) for way in found), default=0)
        name = min(name, max(14, self.width - 36))
        lines = [head]
        for number, way in enumerate(found, 1):
            here = number - 1 == min(self.state.way, len(found) - 1)
            size = "" if way.total_bytes is None else fmt.memory(way.total_bytes)
            line = Text.assemble(
                (self.glyphs.cursor if here else " ", self.inks.primary),
                (f" {number}  ", self.inks.primary),
                (fmt.pad(fmt.squeeze(way.text, name), name), STRONG if here else Style.null()),
                f"  {size:>9}  " if not way.force else "   ",
                (way.note, self.inks.muted),
            )
            line.truncate(self.width, overflow="ellipsis")
            lines.append(line)
        return lines

    def note_lines(self, room: int) -> list[Text]:
        """What the plan wants to be known, in at most `room` lines: choices, and warnings."""
        plan = self.facts.plan
        if plan is None or not self.facts.single:
            return []
        warned = [(f"! {w}", self.inks.warning) for w in plan.warnings]
        noted = [(note, self.inks.muted) for note in plan.notes]
        said = [Text(fmt.clean(words), ink) for words, ink in warned + noted]
        whole = [line for one in said for line in wrapped(one, self.width, 2)]
        if len(whole) <= room:
            return whole
        for one in said:
            one.truncate(self.width, overflow="ellipsis")
        return said[: max(0, room)]
