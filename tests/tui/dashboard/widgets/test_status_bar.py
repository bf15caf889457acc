"""The status bar: what falls away, what is outdated, and what counts down."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from rich.text import Text

from modeldeck.core.schema import Recording
from modeldeck.tui.dashboard import theme
from modeldeck.tui.dashboard.widgets.status_bar import StatusBar, StatusSegment, fit
from modeldeck.tui.remote.core_link import LinkState, LinkStatus
from tests.tui.dashboard.test_frame import STATE, dashboard, drawn, live, until

pytestmark = pytest.mark.usefixtures("undebugged")


def part(text: str, rank: int, *, right: bool = False) -> StatusSegment:
    return StatusSegment(text=Text(text), rank=rank, right=right)


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (20, "left   b       right"),
        (15, "left   b  right"),
        (13, "left    right"),
        (9, "left     "),
        (3, "lef"),
        (0, ""),
    ],
)
def test_parts_fall_away_by_rank(width: int, line: str) -> None:
    parts = [part("left", 0), part("b", 3), part("right", 2, right=True)]
    assert fit(parts, width).plain == line


async def test_what_is_outdated_has_no_colour_that_is_dim() -> None:
    app = dashboard(chosen=theme.SIXTEEN)
    async with app.run_test(size=(120, 40)) as pilot:
        await live(app, pilot)
        bar = app.screen.query_one(StatusBar)
        bar.link_status = LinkStatus(state=LinkState.LOST)
        await until(pilot, lambda: "reconnecting" in drawn(app)[0])
        strip = app.screen._compositor.render_strips()[0]
        dim = [(text, style) for text, style, _ in strip if style and style.dim and text.strip()]
        assert any("GiB" in text for text, _ in dim)
        for text, style in dim:
            assert style.color is None or style.color.is_default, text


async def test_the_time_that_is_left_of_a_recording_counts_down_where_nothing_else_moves() -> None:
    app = dashboard()
    async with app.run_test(size=(120, 40)) as pilot:
        await live(app, pilot)
        until_ = (datetime.now(UTC) + timedelta(minutes=30)).isoformat()
        app.link.latest = replace(STATE, recording=Recording(until=until_))
        seen: set[str] = set()

        def counted() -> bool:
            seen.update(re.findall(r"recording ([0-9]+:[0-9]+)", drawn(app)[0]))
            return len(seen) >= 2

        await until(pilot, counted)
