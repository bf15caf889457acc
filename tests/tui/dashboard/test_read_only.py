"""`--readonly`: what changes something is refused, by key, click and word, and is drawn dim."""

from __future__ import annotations

from typing import Any

import pytest
from rich.style import Style

from modeldeck.core.config.config import Tui
from modeldeck.core.schema import LoadOptions
from modeldeck.tui.dashboard.command_registry import READ_ONLY
from modeldeck.tui.dashboard.commands import Command
from modeldeck.tui.dashboard.global_commands import COMMANDS, FLEET
from modeldeck.tui.dashboard.screens import ALL
from modeldeck.tui.dashboard.screens.chat.commands import CHANGING
from modeldeck.tui.dashboard.widgets import composer, scrolled_lines, table_commands
from modeldeck.tui.dashboard.widgets.footer import Footer
from tests.tui.dashboard.screens.steps import TINY, fetched, go, loaded

pytestmark = pytest.mark.usefixtures("undebugged")

SCROLL = {c.name for c in scrolled_lines.COMMANDS}
LOOKING = {
    "app": {c.name for c in (*COMMANDS, *FLEET)} - {"undo"},
    "catalog": {"filter", "try", "shown", "card", "hub", "longer", "shorter", "copy"},
    "downloads": {"files", "disk", "copy", "filter"},
    "memory": {"requests", "details", "disk", "copy", "filter", *SCROLL},
    "requests": {"details", "copy", "filter", "show", *SCROLL},
    "disk": {"leave", "copy", "filter"},
    "fleet": {"enter", "serves", "reach"},
    "chat": {c.name for c in next(v for v in ALL if v.name == "chat").load().COMMANDS} - CHANGING,
    "log": {c.name for c in next(v for v in ALL if v.name == "log").load().COMMANDS},
}
"""Commands that change nothing, by view."""


def every() -> list[tuple[str, Command]]:
    views = [(view.name, c) for view in ALL for c in view.load().COMMANDS]
    return [*views, *(("app", c) for c in (*COMMANDS, *FLEET))]


def test_each_command_says_whether_it_changes_something() -> None:
    looking: dict[str, set[str]] = {view: set() for view in LOOKING}
    for scope, command in every():
        if not command.changes:
            looking[scope].add(command.name)
    assert looking == LOOKING
    for command in (*table_commands.COMMANDS, *composer.COMMANDS):
        assert not command.changes, command.name


async def test_every_command_that_changes_something_is_refused(screen: Any) -> None:
    async with screen("catalog", before=fetched(TINY), settings=Tui(readonly=True)) as at:
        await go(at, TINY)
        before = at.state
        changing = [(scope, c) for scope, c in every() if c.changes and scope != "fleet"]
        assert len(changing) > 25
        for scope, command in changing:
            if scope != "app":
                at.app.current = scope
                await at.pilot.pause()
            said = len(at.app.messages)
            for key in command.keys.split(",") if command.keys else ():
                await at.press(key)
                assert at.app.messages[-1].text == READ_ONLY, f"{scope}.{command.name}"
            space = at.app if scope == "app" else at.app.view
            await at.app.run_action(command.action or command.name, space)
            assert len(at.app.messages) > said, f"{scope}.{command.name}"
            assert at.app.messages[-1].text == READ_ONLY
            assert at.app.question is None
            assert len(at.app.screen_stack) == 1
        assert at.state.models == before.models
        assert not at.state.instances
        assert at.state.settings == before.settings


async def test_words_and_clicks_are_refused_and_drawn_dim(screen: Any) -> None:
    async with screen("catalog", before=fetched(TINY), settings=Tui(readonly=True)) as at:
        await go(at, TINY)
        assert "read-only" in at.text.split("\n")[0]
        for words in ("delete", "load tiny", "limit 5MB/s", "undo", "unload all"):
            said = len(at.app.messages)
            await at.press(":", *words, "enter")
            await at.until(lambda said=said: len(at.app.messages) > said)
            assert at.app.messages[said].text == READ_ONLY, words
        footer = at.app.query_one(Footer)
        spot = next(s for s in footer._spots if isinstance(s.target, tuple))
        style = footer.render().get_style_at_offset(at.app.console, spot.start)
        assert style.dim
        said = len(at.app.messages)
        await at.pilot.click(footer, offset=(spot.start + 2, 0))
        await at.until(lambda: len(at.app.messages) > said)
        assert at.app.messages[-1].text == READ_ONLY
        assert at.app.question is None
        await at.press("question_mark")
        await at.sees("Download the model.")


async def test_chat_talks_to_loaded_models_only(screen: Any) -> None:
    async with screen("catalog", before=fetched(TINY), settings=Tui(readonly=True)) as at:
        await go(at, TINY)
        await at.press("t", *"count", "enter")
        await at.sees("Chat talks to loaded models only.")
        assert not at.state.instances
        await at.client.load(TINY, LoadOptions(context_length=512))
        await at.until(lambda: loaded(at) == [TINY])
        await at.press("enter")
        await at.sees("tok/s")


async def test_without_it_nothing_is_dim(screen: Any) -> None:
    async with screen("catalog") as at:
        footer = at.app.query_one(Footer)
        spot = next(s for s in footer._spots if isinstance(s.target, tuple))
        assert footer.render().get_style_at_offset(at.app.console, spot.start) != Style(dim=True)
        assert "read-only" not in at.text
