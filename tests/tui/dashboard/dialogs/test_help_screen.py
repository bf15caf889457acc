"""The help: legends of signs, and a search in its sentences."""

from __future__ import annotations

import pytest
from textual.widgets import Input

from modeldeck.tui.dashboard.dialogs.help_screen import HelpScreen
from modeldeck.tui.dashboard.dialogs.legends import legends
from modeldeck.tui.text.format import ASCII, CONSOLE, UNICODE, Glyphs
from tests.tui.dashboard.test_frame import dashboard, drawn, live

pytestmark = pytest.mark.usefixtures("undebugged")


@pytest.mark.parametrize("glyphs", [UNICODE, CONSOLE, ASCII])
def test_no_two_things_have_one_sign_in_a_legend(glyphs: Glyphs) -> None:
    for heading, rows in legends(glyphs):
        signs = [sign for sign, _ in rows]
        assert len(signs) == len(set(signs)), heading
        assert all(words for _, words in rows)


async def test_slash_searches_and_esc_ends_the_search_first() -> None:
    app = dashboard()
    async with app.run_test(size=(80, 24)) as pilot:
        await live(app, pilot)
        await pilot.press("question_mark", "slash", *"KV cac")
        await pilot.pause()
        lines = "\n".join(drawn(app))
        assert "KV cache" in lines
        assert "Gauge of memory" in lines
        assert "Download the model" not in lines
        await pilot.press(*"xyz")
        await pilot.pause()
        assert "No match." in "\n".join(drawn(app))
        await pilot.press("enter")
        assert not app.screen.query_one(Input).has_focus
        await pilot.press("escape")
        await pilot.pause()
        assert isinstance(app.screen, HelpScreen)
        assert "Download the model" in "\n".join(drawn(app))
        await pilot.press("escape")
        await pilot.pause()
        assert len(app.screen_stack) == 1
