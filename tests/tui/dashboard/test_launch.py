"""The dashboard as a program: what it imports, its keys, and leaving it."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
import pytest
from textual.widgets import Input
from textual.worker import WorkerFailed

from modeldeck.core.client import daemon
from modeldeck.core.client.client import Client
from modeldeck.core.config.config import Tui
from modeldeck.core.config.paths import locate
from modeldeck.core.errors import DeckError
from modeldeck.tui.dashboard import theme
from modeldeck.tui.dashboard.app import Dashboard
from modeldeck.tui.dashboard.commands import keymap_problems
from modeldeck.tui.dashboard.global_commands import COMMANDS
from modeldeck.tui.dashboard.launch import log_to_file
from modeldeck.tui.dashboard.options import DashboardOptions
from modeldeck.tui.dashboard.screens import VIEWS
from modeldeck.tui.dashboard.widgets.no_core import NoCoreNotice
from modeldeck.tui.dashboard.widgets.prompt import Prompt
from modeldeck.tui.remote.core_host import DemoCore, OwnCore
from modeldeck.tui.remote.core_link import LinkState
from modeldeck.tui.text.format import UNICODE
from tests.support.process import CoreProcess

SCOPES = {"app": COMMANDS, **{view.name: view.load().COMMANDS for view in VIEWS}}


@asynccontextmanager
async def dashboard(core: CoreProcess, **options: Any) -> AsyncIterator[tuple[Dashboard, Any]]:
    """A dashboard that knows the state of the core, and its pilot."""
    left = asyncio.Event()

    @asynccontextmanager
    async def attach() -> AsyncIterator[Client]:
        try:
            async with Client(socket=core.socket) as client:
                yield client
        finally:
            left.set()

    given: dict[str, Any] = {"keymap": {}, "themes": theme.load(None), **options}
    app = Dashboard(attach, DashboardOptions(glyphs=UNICODE, settings=Tui(), **given))
    async with app.run_test() as pilot:
        await until(pilot, lambda: app.state is not None)
        yield app, pilot
    await left.wait()


async def until(pilot: Any, condition: Any) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await pilot.pause(0.02)


# Starting


def test_what_speaks_to_a_core_is_not_imported_before_the_first_paint() -> None:
    late = (
        "httpx",
        "websockets",
        "modeldeck.core.client.client",
        "modeldeck.core.client.daemon",
        "huggingface_hub",
        "numpy",
    )
    script = (
        f"import sys, modeldeck.tui.dashboard.launch; print([m for m in {late} if "
        f"m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True)
    assert done.stdout == "[]\n", done


# Keys


def test_no_two_commands_want_the_same_key() -> None:
    for scope in VIEWS:
        every = {f"{scope.name}.{c.name}": c.keys for c in scope.load().COMMANDS}
        assert keymap_problems(SCOPES, every) == [], scope


def test_a_keymap_is_told_what_is_wrong_with_it() -> None:
    (unknown,) = keymap_problems(SCOPES, {"catalog.dwnload": "D"})
    assert "catalog.dwnload" in unknown
    problems = keymap_problems(SCOPES, {"app.help": "d"})
    assert any("app.help and catalog.download both want d" in p for p in problems)
    assert keymap_problems(SCOPES, {"app.help": "f1"}) == []


async def test_what_is_said_names_the_keys_that_a_person_chose(core: CoreProcess) -> None:
    keymap = {"catalog.unload": "f3", "catalog.load": "f4", "catalog.verify": "f5"}
    async with dashboard(core, keymap={**keymap, "catalog.download": ""}) as (app, pilot):
        await pilot.press("f3")
        await until(pilot, lambda: any("f4 loads it" in m.text for m in app.messages))
        await pilot.press("f5")
        said = ":download downloads it"
        await until(pilot, lambda: any(said in m.text for m in app.messages))


async def test_a_persons_keys_hold_and_a_wrong_one_is_said(core: CoreProcess) -> None:
    async with dashboard(core, keymap={"app.help": "f1", "app.nothing": "f2"}) as (app, pilot):
        await pilot.press("question_mark")
        assert len(app.screen_stack) == 1
        await pilot.press("f1")
        await until(pilot, lambda: len(app.screen_stack) == 2)
        assert any("app.nothing" in message.text for message in app.messages)


async def test_keys_that_arrive_together_are_heard_one_after_the_other(core: CoreProcess) -> None:
    async with dashboard(core) as (app, pilot):
        from textual.events import Key

        for char in "/padded":
            app.post_message(Key("slash" if char == "/" else char, char))
        await until(pilot, lambda: isinstance(app.focused, Input) and app.focused.value == "padded")
        assert not app.state.downloads  # type: ignore[union-attr] # there is one


# Leaving


async def test_it_asks_only_when_something_would_be_lost(
    core: CoreProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with dashboard(core) as (app, pilot):
        prompt = app.screen.query_one(Prompt)
        monkeypatch.setattr(VIEWS[0].load(), "at_stake", lambda _: "A form is half written.")
        await pilot.press("q")
        await until(pilot, lambda: prompt.has_class("asking"))
        await pilot.press("ctrl+c")  # calls the question off, not the dashboard
        await until(pilot, lambda: not prompt.has_class("asking"))
        assert app.is_running
        await pilot.press("q")
        await until(pilot, lambda: prompt.has_class("asking"))
        await pilot.press("y")
        await until(pilot, lambda: not app.is_running or app._exit)
    assert app.return_code == 0


@pytest.mark.parametrize("key", ["ctrl+c", "ctrl+q"])
async def test_what_lies_on_the_frame_is_left_first(core: CoreProcess, key: str) -> None:
    async with dashboard(core) as (app, pilot):
        await pilot.press("question_mark")
        await until(pilot, lambda: len(app.screen_stack) == 2)
        await pilot.press(key)
        await until(pilot, lambda: len(app.screen_stack) == 1)
        assert not app._exit
        await pilot.press(key)
        await until(pilot, lambda: app._exit)


async def test_what_was_written_and_not_sent_is_at_stake(core: CoreProcess) -> None:
    async with dashboard(core) as (app, pilot):
        await pilot.press("4")
        await until(pilot, lambda: app.focused is not None)
        await pilot.press(*"hm", "ctrl+c")
        await until(pilot, lambda: app.screen.query_one(Prompt).has_class("asking"))
        assert not app._exit


async def test_a_core_that_cannot_be_had_is_tried_again_on_request() -> None:
    tries = []

    @asynccontextmanager
    async def attach() -> AsyncIterator[Client]:
        tries.append(1)
        raise DeckError("It did not start.", "Mend it.", details=("its [last] line",))
        yield

    app = Dashboard(
        attach, DashboardOptions(glyphs=UNICODE, settings=Tui(), keymap={}, themes=theme.load(None))
    )
    async with app.run_test() as pilot:
        await until(pilot, lambda: app.link_status.state is LinkState.FAILED)
        trouble = app.screen.query_one(NoCoreNotice)
        await until(pilot, lambda: trouble.display)
        shown = str(trouble.visual)
        for words in ("It did not start.", "its [last] line", "Mend it.", "ctrl+r"):
            assert words in shown
        await pilot.press("ctrl+r")
        await until(pilot, lambda: len(tries) == 2)


# Hosts


@pytest.fixture
async def own(home: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[OwnCore]:
    monkeypatch.setenv("MODELDECK_API_PORT", "0")
    yield OwnCore(locate())
    await daemon.stop(locate())


async def test_a_core_that_was_found_is_left_as_it_was(own: OwnCore) -> None:
    ready = await daemon.start_background(locate())
    async with own.attach() as client:
        assert (await client.state()).host.pid == ready.pid
    assert await own.leave() is None
    assert await daemon.find(locate()) == ready


async def test_a_core_that_was_started_ends_when_it_has_nothing_to_do(own: OwnCore) -> None:
    async with own.attach():
        assert await daemon.find(locate()) is not None
    assert await own.leave() is None
    assert await daemon.find(locate()) is None


async def test_a_core_that_another_was_quicker_to_start_is_theirs_to_end(own: OwnCore) -> None:
    other = OwnCore(locate())
    await asyncio.gather(own.begin(), other.begin())
    later, first = sorted((own, other), key=lambda core: core.started)
    await later.leave()
    assert await daemon.find(locate()) is not None
    await first.leave()
    assert await daemon.find(locate()) is None


async def test_only_a_core_that_was_killed_is_revived(own: OwnCore) -> None:
    ready = await daemon.start_background(locate())
    async with own.attach():
        assert not await own.revive()
        os.kill(ready.pid, 9)
        await asyncio.to_thread(psutil.wait_procs, _processes(ready.pid))
        assert await own.revive()
        assert (await daemon.find(locate())) is not None
        await daemon.stop(locate())
        assert not await own.revive()


def _processes(pid: int) -> list[psutil.Process]:
    return [psutil.Process(pid)] if psutil.pid_exists(pid) else []


@pytest.fixture
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder for temporary files of the demo, short enough for a socket in it."""
    with TemporaryDirectory(prefix="md-") as folder:
        monkeypatch.setenv("TMPDIR", folder)
        yield Path(folder)


async def test_the_demo_brings_its_core_back_and_leaves_nothing(
    temporary: Path,
) -> None:
    demo = DemoCore(0)
    async with demo.attach() as client:
        first = (await client.state()).host.pid
        os.kill(first, 9)
        second = await client.feed.until(lambda state: state.host.pid != first)
        assert second.host.hub
    said = await demo.leave()
    assert said is not None
    assert "removed" in said
    assert os.listdir(temporary) == []


async def test_a_bug_in_work_beside_the_screen_is_told_and_ends_nothing(core: CoreProcess) -> None:
    async def buggy(_: Client) -> None:
        raise RuntimeError("a bug")

    async def go_on() -> None:
        async with dashboard(core) as (app, pilot):
            app.perform(buggy)
            await until(pilot, lambda: any("(RuntimeError)" in m.text for m in app.messages))
            await pilot.press("4")
            await until(pilot, lambda: app.current != VIEWS[0].name)
            assert app.is_running

    with pytest.raises(WorkerFailed, match="a bug"):  # what a test hears of it in the end
        await go_on()


async def test_a_bug_is_logged_without_values(core: CoreProcess, home: Path) -> None:
    """Tokens are among the values of variables."""

    def look() -> None:
        token = "deck_" + "planted"
        raise RuntimeError(f"a bug with {len(token)} characters")

    async def go_on() -> None:
        async with dashboard(core) as (app, pilot):
            app.call_later(look)
            await until(pilot, lambda: any("a bug with" in m.details for m in app.messages))
            assert app.is_running
            assert not any("deck_planted" in m.details for m in app.messages)

    log = logging.getLogger()
    before = list(log.handlers)
    log.handlers.clear()
    try:
        log_to_file(home / "log" / "dashboard.log")
        with pytest.raises(RuntimeError, match="a bug"):
            await go_on()
    finally:
        log.handlers[:] = before
    written = (home / "log" / "dashboard.log").read_text()
    assert "Traceback" in written
    assert "a bug with" in written
    assert "deck_planted" not in written
