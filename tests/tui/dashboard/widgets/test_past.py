"""What a figure was, drawn over several lines."""

from __future__ import annotations

import pytest
from rich.style import Style
from rich.text import Text
from textual.app import App, ComposeResult

from modeldeck.tui.dashboard.theme import ThemeStyles, ink
from modeldeck.tui.dashboard.widgets.history_chart import HistoryChart
from modeldeck.tui.text.format import UNICODE

WIDTH = 20


class Page(App[None]):
    """Nothing but the past."""

    CSS = "HistoryChart { height: 4; padding: 0; }"

    def compose(self) -> ComposeResult:
        yield HistoryChart(UNICODE)

    def show(self, *values: float | None) -> None:
        self.query_one(HistoryChart).show(values, 0.5, Text("words", Style()), self.inks)

    @property
    def inks(self) -> ThemeStyles:
        return ink(self.theme_variables)

    @property
    def lines(self) -> list[str]:
        return [strip.text.rstrip() for strip in self.screen._compositor.render_strips()]


@pytest.mark.parametrize(
    ("values", "lines"),
    [
        ((None,) * WIDTH, ["words", "", "", "—" * WIDTH]),
        ((*(None,) * 19, 7.0), ["words", "", "", "—" * 19 + "▁"]),
        (
            (*(None,) * 16, 1.0, 1.0, 9.0, 1.0),
            ["words", " " * 18 + "█", " " * 18 + "█", "—" * 16 + "▁▁█▁"],
        ),
        ((*(None,) * 16, 1.0, 1.1, 1.2, 1.1), ["words", "", "", "—" * 16 + "▁▁▁▁"]),
    ],
)
async def test_the_newest_is_at_the_right_and_what_is_unknown_is_said(
    values: tuple[float | None, ...], lines: list[str]
) -> None:
    app = Page()
    async with app.run_test(size=(WIDTH, 4)) as pilot:
        await pilot.pause()
        app.show(*values)
        await pilot.pause()
        assert app.lines == lines
