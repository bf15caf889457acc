"""What a figure was, drawn from 0 to all that there is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from textual.theme import BUILTIN_THEMES

from modeldeck.tui.dashboard.theme import ink
from modeldeck.tui.dashboard.widgets.history_chart import HistoryData, HistoryMark, chart
from modeldeck.tui.text.format import ASCII, UNICODE

INKS = ink(BUILTIN_THEMES["nord"].to_color_system().generate())
NOW = datetime(2026, 1, 1, 16, 30, tzinfo=UTC)


def data(*values: float | None, **more: Any) -> HistoryData:
    return HistoryData(**{"values": values, "step_s": 1.0, "now": NOW, "top": 64.0, **more})


def drawn(
    what: HistoryData, height: int, *, clock: bool = False, glyphs: Any = UNICODE
) -> list[str]:
    return [line.plain for line in chart(what, height, glyphs, INKS, clock=clock)]


@pytest.mark.parametrize(
    ("values", "lines"),
    [
        ((None, 64.0, 32.0), ["64 ┤ █ ", "32 ┤ ▄█"[:4] + " █▄", " 0 ┼─██"]),
        ((0.0, 0.1, 21.4), ["64 ┤   ", "32 ┤  ▁", " 0 ┼ ▁█"]),
    ],
)
def test_the_lowest_line_is_nothing_and_the_highest_all(
    values: tuple[float | None, ...], lines: list[str]
) -> None:
    assert drawn(data(*values), 3) == lines


def test_what_is_not_known_is_said() -> None:
    before = data(*[None] * 40, 9.0, 9.0, started=NOW - timedelta(seconds=20))
    ground = drawn(before, 3)[-1]
    assert ground.startswith(" 0 ┼──── not running ────")
    assert "─ no data ─" in ground
    assert ground.endswith("██") is False
    assert "not running" not in drawn(data(*[None] * 9, 1.0), 3)[-1], "there is no room for words"


def test_times_and_loads_stand_below() -> None:
    marks = [
        HistoryMark(at=NOW - timedelta(seconds=30), words="load 2"),
        HistoryMark(at=NOW - timedelta(seconds=28), words="unload 1"),
        HistoryMark(at=NOW - timedelta(seconds=900), words="load 1"),
    ]
    below = drawn(data(*[1.0] * 80, marks=marks), 6, clock=True)[-1]
    assert below.endswith("16:30")
    assert len(below) == 80 + 4
    assert below.index("unload 1 ^") + len("unload 1 ^") - 1 == 4 + 79 - 28
    assert "load 2" not in below, "there is no room for both"
    assert "load 1 ^" not in below.replace("unload 1 ^", ""), "that was before"
    assert below[4:9] == "16:28"


def test_every_sign_has_one_in_ascii() -> None:
    lines = drawn(data(None, 1.0, 40.0, top=64.0), 6, clock=True, glyphs=ASCII)
    assert "".join(lines).isascii()
    assert [line[:4] for line in lines[:6]] == ["64 +", "   |", "32 +", "   |", "   |", " 0 +"]
