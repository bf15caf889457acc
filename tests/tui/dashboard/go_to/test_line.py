"""The go-to line in the dashboard: its keys, its mouse, and where it goes."""

from __future__ import annotations

import re
from typing import Any

import pytest
from textual.widgets import Input, TextArea

from modeldeck.core.schema import LoadOptions
from modeldeck.tui.dashboard.screens.chat.screen import ChatView
from modeldeck.tui.dashboard.screens.log.screen import LogView
from modeldeck.tui.dashboard.widgets.table import Table
from tests.tui.dashboard.screens.steps import F16, TINY, downloaded, fetched, go, model
from tests.tui.dashboard.test_frame import dashboard, drawn, live

pytestmark = pytest.mark.usefixtures("undebugged")


def writes(at: Any) -> bool:
    return isinstance(at.app.focused, Input) and at.app.question is not None


@pytest.mark.parametrize("size", [(120, 40), (80, 24), (60, 15)])
async def test_its_lines_stand_above_the_footer_at_every_size(size: tuple[int, int]) -> None:
    app = dashboard()
    async with app.run_test(size=size) as pilot:
        await live(app, pilot)
        await pilot.press(*":ch")
        await pilot.pause()
        lines = [line.rstrip() for line in drawn(app)]
        wide = size[0] >= 100
        text = lines[-2]
        assert text.startswith(" :ch")
        assert bool(re.fullmatch(r"   \d+ of \d+", lines[-3])) is wide
        assert (" of " in text) is not wide
        rule = next(i for i, line in enumerate(lines) if line == "─" * size[0])
        assert lines[rule + 1].split()[-1] == "4"
        assert lines[rule + 1].startswith(" ▸ view  chat " if size[0] >= 76 else " ▸ chat ")
        keys = "enter does it  tab complete  ↑ ↓ choose  esc leave"
        keys = keys if wide else keys.replace("↑ ↓ choose  ", "")
        assert lines[-1].startswith("  Go to  ")
        assert lines[-1].endswith(keys)
        await pilot.press("escape")
        await pilot.pause()
        assert app.question is None
        assert "1 Catalog" in drawn(app)[-1]
        assert not app.messages


async def test_keys_that_arrive_together_reach_it(screen: Any) -> None:
    async with screen("catalog") as at:
        for second in ("pagedown", "pageup") * 4:
            at.type("ctrl+p", second)
            await at.until(lambda: writes(at))
            at.type("escape")
            await at.until(lambda: at.app.question is None)
        at.type(*":mem", "enter", *":log", "enter", "minus", *":dl", "enter", "minus", "plus")
        await at.until(lambda: at.app.current == "downloads" and not at.app._keys)
        at.type(":", "pagedown", "pageup", "enter")
        await at.until(lambda: writes(at))
        await at.press("escape")
        assert not at.app.messages


async def test_it_goes_to_a_view_and_a_chat_and_back_to_the_same_row(screen: Any) -> None:
    async with screen("catalog", before=fetched(TINY, F16)) as at:
        for name in (TINY, F16):
            await at.client.load(name, LoadOptions(context_length=512))
        await at.until(lambda: len(at.state.instances) == 2)
        await at.press(*":mem", "enter")
        await at.until(lambda: at.app.current == "memory")
        table = at.app.view.query_one(Table)
        await at.press("j")
        row = table.cursor_key
        assert row is not None
        await at.press(*":chat ti", "tab")
        await at.until(lambda: writes(at) and at.app.focused.value.startswith("chat tiny"))
        await at.press("enter", "minus")
        await at.until(lambda: at.app.current == "memory")
        assert table.cursor_key == row
        assert at.app.query_one(ChatView).partner.model_id is not None
        await at.press("plus")
        await at.until(lambda: at.app.current == "chat")
        await at.press("x", "-")
        composer = at.app.focused
        assert isinstance(composer, TextArea)
        assert composer.text == "x-", "what is written is no key"


async def test_words_of_other_programs_work_and_teach_the_key(screen: Any) -> None:
    async with screen("catalog", before=fetched(TINY)) as at:
        await go(at, TINY)
        await at.press(*":delete", "enter")
        await at.sees("Delete the files of tiny")
        await at.press("n")
        await at.sees("delete is x")
        await at.press("3", *":delete", "enter")
        await at.until(lambda: at.app.current == "catalog")
        await at.sees("delete is x")
        await at.press(*":pull tiny-f16", "enter")
        await at.until(lambda: downloaded(at, F16))
        assert "pull is d" in [message.text for message in at.app.messages]


async def test_a_command_on_a_model_leaves_marks_alone(screen: Any) -> None:
    async with screen("catalog", before=fetched(TINY)) as at:
        await go(at, F16)
        await at.press("space")
        tiny = model(at)
        assert tiny is not None
        at.type(*":load tiny", "enter")
        await at.until(lambda: [i.unique for i in at.state.instances.values()] == [TINY])
        table = at.app.view.query_one("#rows", Table)
        other = model(at, F16)
        assert other is not None
        assert table.marks == {other.id}
        assert table.cursor_key == tiny.id


async def test_values_machines_themes_errors_and_help(screen: Any) -> None:
    async with screen("catalog") as at:
        await at.press(*":limit 5MB/s", "enter")
        await at.until(lambda: at.state.settings.rate_limit_bytes_per_s == 5_000_000)
        await at.press(*":budget 48", "enter")
        await at.until(lambda: at.state.settings.memory_budget_bytes == 48 << 30)
        await at.press(*":budget much", "enter")
        await at.sees("Not an amount of memory")
        assert writes(at), "what cannot be done stays to be mended"
        await at.press("escape", *":theme moss", "enter")
        await at.until(lambda: at.app.theme == "moss")
        at.app.say("broken", "error")
        await at.press(*":errors", "enter")
        await at.until(lambda: at.app.current == "log")
        await at.sees("level error", "broken")
        assert at.app.query_one(LogView)._filters.level == "error"
        await at.press(*":help prune", "enter")
        await at.until(lambda: len(at.app.screen_stack) == 2)
        await at.press("escape", "escape", *":help kv", "enter")
        await at.sees("KV cache")
        assert "Reconnect" not in at.text


async def test_the_mouse_chooses_and_a_click_elsewhere_leaves(screen: Any) -> None:
    async with screen("catalog", size=(80, 24)) as at:
        await at.press(*":mem")
        await at.sees("▸ view  memory")
        lines = at.text.split("\n")
        y = next(i for i, line in enumerate(lines) if "▸ view  memory" in line)
        await at.pilot.click(offset=(12, y))
        await at.until(lambda: at.app.current == "memory" and at.app.question is None)
        await at.press(":")
        await at.until(lambda: writes(at))
        await at.pilot.click(offset=(10, 3))
        await at.until(lambda: at.app.question is None)
        assert not at.app.messages


async def test_q_leaves() -> None:
    app = dashboard()
    async with app.run_test(size=(80, 24)) as pilot:
        await live(app, pilot)
        await pilot.press(*":q", "enter")
        while app.is_running and app.return_code is None:
            await pilot.pause()
    assert app.return_code == 0
