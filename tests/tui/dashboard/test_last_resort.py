"""A key that fails inside the dashboard: it is told and logged, and the dashboard goes on."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import ContentSwitcher

from modeldeck.tui.dashboard.app import Dashboard
from modeldeck.tui.dashboard.dialogs.help_screen import HelpScreen
from modeldeck.tui.dashboard.last_resort import RAISE
from modeldeck.tui.dashboard.screens.view import View
from modeldeck.tui.dashboard.widgets.table import Table
from tests.tui.dashboard.test_frame import dashboard, drawn, live
from tests.tui.dashboard.test_questions import DELETE

pytestmark = pytest.mark.usefixtures("undebugged")


def heard(app: Dashboard) -> None:
    """Forget the error, which `run_test` would raise in the end."""
    app._exception = None


@pytest.fixture
def copy_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RAISE, "catalog.copy")


@pytest.mark.usefixtures("copy_fails")
async def test_it_is_told_and_everything_else_works() -> None:
    app = dashboard()
    async with app.run_test(size=(120, 40)) as pilot:
        await live(app, pilot)
        await pilot.press("y")
        await pilot.pause()
        heard(app)
        lines = drawn(app)
        assert (
            "✗ That key failed inside modeldeck (KeyError). Nothing was lost;"
            " 5 shows the details." in lines[-2]
        )
        assert re.search(r"✗ \d$", lines[0].rstrip())
        assert "Traceback" not in "\n".join(lines)
        await pilot.press("question_mark")
        await pilot.pause()
        assert isinstance(app.screen, HelpScreen)
        await pilot.press("escape", "5")
        while "error    dashboard" not in (text := "\n".join(drawn(app))):
            await pilot.pause()
        assert "KeyError: 'MODELDECK_DEBUG_RAISE=catalog.copy' Traceback" in text
        assert "✗" not in drawn(app)[0], "it was seen"


@pytest.mark.usefixtures("copy_fails")
async def test_a_question_is_called_off() -> None:
    app = dashboard()
    async with app.run_test(size=(80, 24)) as pilot:
        await live(app, pilot)
        asking = asyncio.create_task(app.ask_question(DELETE))
        while app.question is None:
            await pilot.pause()
        app.call_later(app.run_action, "copy", app.view)
        assert await asking is None
        heard(app)
        assert app.is_running


@pytest.mark.usefixtures("copy_fails")
async def test_many_make_the_view_anew_and_more_end_with_the_name_of_the_log(
    capsys: pytest.CaptureFixture[str],
) -> None:
    app = dashboard()
    app.log_file = Path("/logs/dashboard.log")
    now = 0.0
    app.clock = lambda: now
    async with app.run_test(size=(80, 24)) as pilot:
        await live(app, pilot)
        first = app.view
        for at in (0.0, 10.0, 20.0, 21.0):
            now = at
            await pilot.press("y")
        await pilot.pause()
        assert app.view is first, "not within five seconds"
        now = 22.0
        await pilot.press("y")
        while not (switcher := app.query_one(ContentSwitcher)).query(f"#{app.current}"):
            await pilot.pause()
        while any(worker.group == "renew" for worker in app.workers):
            await pilot.pause()
        await pilot.pause()
        assert isinstance(app.view, View)
        assert app.view is not first
        assert switcher.current == "catalog"
        for at in (23.0, 24.0, 25.0):
            now = at
            await pilot.press("y")
        while not app._exit:
            await pilot.pause()
        heard(app)
    assert app.return_code == 1
    said = "".join(capsys.readouterr())
    assert "/logs/dashboard.log" in said
    assert "Traceback" not in said


async def test_errors_of_timers_and_of_drawing_end_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = dashboard()
    failing = True

    def broken(*_: object) -> None:
        nonlocal failing
        if failing:
            failing = False
            raise ZeroDivisionError

    async with app.run_test(size=(80, 24)) as pilot:
        await live(app, pilot)
        for widget in (app, app.screen, app.view):
            failing = True
            widget.set_timer(0.01, broken)
            while failing:
                await pilot.pause()
            await pilot.pause()
            assert "(ZeroDivisionError)" in app.messages[-1].text
        failing = True
        monkeypatch.setattr("modeldeck.tui.dashboard.widgets.footer.Footer.on_click", broken)
        await pilot.click("Footer")
        await pilot.press("3")
        await pilot.pause()
        heard(app)
        assert app.current == "memory"


async def test_keys_that_arrive_with_the_go_to_line_end_nothing() -> None:
    app = dashboard()
    async with app.run_test(size=(120, 40)) as pilot:
        await live(app, pilot)
        for second in ("pagedown", "pageup", "down", "end"):
            await pilot.press("ctrl+p", second)
            await pilot.pause()
            assert app.question is not None
            await pilot.press("escape")
            while app.question is not None:
                await pilot.pause()
        assert not app.messages


async def test_an_answer_for_a_view_that_is_being_replaced_draws_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gone = asyncio.Event()

    async def answered() -> None:
        await gone.wait()
        view.query_one(Table)

    app = dashboard()
    async with app.run_test(size=(80, 24)) as pilot:
        await live(app, pilot)
        (view,) = app.query("#disk").results(View)
        worker = view.run_worker(answered())
        await pilot.pause()
        own, leave = view.query_one(Table), Table._message_loop_exit

        async def left(table: Table[Any]) -> None:
            await leave(table)
            if table is own:
                gone.set()
                await asyncio.sleep(0)  # the view is there without its table

        monkeypatch.setattr(Table, "_message_loop_exit", left)
        await app.rebuild_screens()
        assert worker.is_cancelled
