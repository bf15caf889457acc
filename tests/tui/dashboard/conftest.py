"""The real dashboard on a terminal that is none, attached to the real core of the test."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from textual import events
from textual.keys import _character_to_key
from textual.pilot import Pilot

from modeldeck.core.client.client import Client
from modeldeck.core.config.config import Tui
from modeldeck.core.demo.hub import DemoHub
from modeldeck.core.schema.state import State
from modeldeck.tui.chats.store import ChatStore
from modeldeck.tui.dashboard import theme
from modeldeck.tui.dashboard.app import Dashboard
from modeldeck.tui.dashboard.diff_renderer import CellChanges
from modeldeck.tui.dashboard.options import DashboardOptions
from modeldeck.tui.text.format import UNICODE, Glyphs
from tests.support.process import CoreProcess
from tests.tui.conftest import PATIENCE_S, emptied

CHARS = {"space": " ", "slash": "/", "question_mark": "?"}
"""Characters of keys that tests name in full."""


@dataclass(slots=True, kw_only=True)
class Screen:
    """A dashboard that runs, and the hands of the person before it."""

    app: Dashboard
    pilot: Pilot[None]
    client: Client
    """A second front end: what it does, the first one must show."""

    @property
    def state(self) -> State:
        """What the dashboard knows."""
        assert self.app.state is not None
        return self.app.state

    @property
    def text(self) -> str:
        """What is drawn, line by line."""
        strips = self.app.screen._compositor.render_strips()
        return "\n".join(strip.text.rstrip() for strip in strips)

    def type(self, *keys: str) -> None:
        """Press keys at once, faster than anything can answer, and do not wait."""
        for key in keys:
            named = _character_to_key(key) if len(key) == 1 and not key.isalnum() else key
            self.app.post_message(events.Key(named, key if len(key) == 1 else CHARS.get(key)))

    async def press(self, *keys: str) -> None:
        """Press keys, and let what they start begin."""
        self.type(*keys)
        await self.pilot.pause()
        await self.until(lambda: not (self.app._under_way or self.app._keys))

    async def write(self, text: str) -> None:
        """Write a text."""
        await self.press(*text)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds; what is drawn is said when it never does.

        It must hold when all messages were handled; asking every widget whether they are costs
        more than the condition, so that is done when it holds.
        """
        late = time.monotonic() + PATIENCE_S
        if condition():
            return
        while True:
            assert time.monotonic() < late, self.text
            await asyncio.sleep(0.02)
            if condition():
                await self.pilot.pause()
                if condition():
                    return

    @property
    def is_working(self) -> bool:
        """Whether work that a key began still runs, such as asking the core or the person."""
        return any(worker.name != "link" for worker in self.app.workers)

    async def finished(self) -> None:
        """Wait until what keys began is done, or asks the person.

        Else the core might still do it while the next test runs, which has the same core.
        """
        await self.pilot.pause()  # a key that was pressed last is handled, and what it began runs
        await self.until(lambda: not (self.app._under_way or self.app._keys))
        await self.until(lambda: self.app.question is not None or not self.is_working)

    async def sees(self, *words: str) -> None:
        """Wait until all of these are drawn."""
        await self.until(lambda: all(word in self.text for word in words))

    async def told(self, *words: str) -> None:
        """Wait until each of these was said in a message; a later one may be shown by then."""
        await self.until(
            lambda: all(any(word in m.text for m in self.app.messages) for word in words)
        )


Open = Callable[..., AbstractAsyncContextManager[Screen]]


@pytest.fixture
def hub(shared_hub: DemoHub) -> DemoHub:
    """The hub that the core knows."""
    return shared_hub


@pytest.fixture
async def core(shared_core: CoreProcess, shared_hub: DemoHub) -> AsyncIterator[CoreProcess]:
    """One core for all tests of a module: each finds it as the first one did."""
    yield shared_core
    await emptied(shared_core, shared_hub)


@pytest.fixture
def screen(core: CoreProcess, undebugged: None) -> Open:
    """Opens a dashboard at a view, with a client beside it."""
    return opens(core)


def opens(core: CoreProcess) -> Open:
    """The same for a core of one's own."""

    @asynccontextmanager
    async def opened(
        view: str,
        *,
        size: tuple[int, int] = (120, 40),
        glyphs: Glyphs = UNICODE,
        settings: Tui | None = None,
        before: Callable[[Client], Awaitable[object]] | None = None,
        held: asyncio.Event | None = None,
        cuts: bool = False,  # whether it is left in the middle of what a key began
        **options: object,
    ) -> AsyncIterator[Screen]:
        left = asyncio.Event()

        @asynccontextmanager
        async def attach() -> AsyncIterator[Client]:
            if held is not None:  # the core is not found before this is set
                await held.wait()
            try:
                async with Client(socket=core.socket) as client:
                    yield client
            finally:
                left.set()

        with tempfile.TemporaryDirectory() as folder:
            chats = options.pop("chats", None)
            if not isinstance(chats, ChatStore):
                chats = ChatStore(Path(folder) / "chats.db")
            async with Client(socket=core.socket) as client:
                if before is not None:
                    await before(client)
                given = DashboardOptions(
                    glyphs=glyphs,
                    settings=settings or Tui(),
                    keymap={},
                    themes=theme.load(None),
                    open_chats=lambda: chats,
                    **options,  # type: ignore[arg-type] # what a test wants to try
                )
                app = Dashboard(attach, given)
                # On a slow machine a message would fade before a test has looked for it.
                app.clock = lambda: 0.0
                async with app.run_test(size=size) as pilot:
                    screen = Screen(app=app, pilot=pilot, client=client)
                    await screen.until(lambda: app.state is not None or held is not None)
                    app.current = view
                    await screen.until(lambda: in_front(app, view))
                    await pilot.pause()
                    yield screen
                    if not cuts:
                        await screen.finished()
                await left.wait()  # leaving cancels the link; its sockets are closed after that
            await app.chats.close()

    return opened


def in_front(app: Dashboard, view: str) -> bool:
    """Whether a view is shown and has its place: before that it draws no rows to act on."""
    return app.survives and view == app.view.NAME and app.view.size.width > 0


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is sent of each update of the screen, as text with its sequences."""
    found: list[str] = []
    make = CellChanges.__init__

    def noted(update: CellChanges, runs: Any) -> None:
        make(update, runs)
        found.append(update.render_segments(Console()))

    monkeypatch.setattr(CellChanges, "__init__", noted)
    return found


def size_of(sent: list[str]) -> int:
    """Bytes of all that was sent."""
    return sum(len(words.encode()) for words in sent)
