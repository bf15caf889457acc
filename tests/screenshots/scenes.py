"""A walk through the real dashboard on one real core and the demo hub, with pictures on the way.

A picture that is held against a kept one is taken again until it is the same, or patience ends; one
that is to be kept is taken when nothing has moved for a while.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from textual.pilot import Pilot
from textual.widgets import Input, TextArea

from modeldeck.core.client.client import Client
from modeldeck.core.config.config import Tui
from modeldeck.core.demo.hub import DemoHub
from modeldeck.core.demo.repositories import build
from modeldeck.core.demo.vocabulary import expected
from modeldeck.core.errors import DeckError
from modeldeck.core.schema import LoadOptions
from modeldeck.tui.dashboard import theme
from modeldeck.tui.dashboard.app import Dashboard
from modeldeck.tui.dashboard.fleet import FleetMachine
from modeldeck.tui.dashboard.options import DashboardOptions, open_chats
from modeldeck.tui.dashboard.screens.memory.screen import MemoryView
from modeldeck.tui.remote.core_link import Attach, CoreLink
from modeldeck.tui.text.format import UNICODE
from tests.screenshots.frozen import FrozenClient, lived
from tests.support.process import CoreProcess

SIZES = ((120, 40), (80, 24), (60, 15))
PATIENCE_S = 60.0
DIFFERENT_S = 10.0
"""After which a picture that is not the kept one is another one."""
STILL_S = 1.2
"""After which what is drawn is taken to stay."""

TINY = "deck/tiny-GGUF:Q8_0"
EMBED = "deck/tiny-embed-GGUF:F16"
SPLIT = "deck/tiny-split-GGUF:F16"
PADDED = "deck/padded-GGUF:F16"
CORRUPT = "deck/corrupt-GGUF:Q8_0"

Picture = tuple[str, str]
"""Name and SVG."""


Kept = Callable[[str], str]
"""The SVG that is kept under a name; empty where there is none, or another is to be taken."""


async def pictures(kept: Kept) -> AsyncIterator[Picture]:
    """Every picture, by its name."""
    with TemporaryDirectory(prefix="md-") as folder, stage(Path(folder)) as (core, open_hub):
        async for picture in offline(core, kept):
            yield picture
        with open_hub() as hub:
            async for picture in empty(core, kept):
                yield picture
            async with Client(socket=core.socket) as client:
                await furnish(client, hub)
            async for picture in screens(core, kept):
                yield picture
            with beside() as other:
                async for picture in fleet(core, other, kept):
                    yield picture
            async for picture in reconnecting(core, kept):
                yield picture
    async for picture in failed(kept):
        yield picture


@contextmanager
def stage(
    folder: Path,
) -> Iterator[tuple[CoreProcess, Callable[[], AbstractContextManager[DemoHub]]]]:
    """A core in folders of its own, and what opens the hub that it knows."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with CoreProcess(surroundings(folder, f"http://127.0.0.1:{port}")) as core:
        yield core, lambda: DemoHub.in_thread(build(folder / "hub"), port=port)


@contextmanager
def beside() -> Iterator[CoreProcess]:
    """The core of a second machine, with nothing on it, and a hub that is as fast as it can be."""
    with (
        TemporaryDirectory(prefix="md-") as folder,
        DemoHub.in_thread(build(Path(folder) / "hub")) as hub,
        CoreProcess(surroundings(Path(folder), hub.url)) as core,
    ):
        yield core


def surroundings(folder: Path, hub_url: str) -> dict[str, str]:
    """The environment of a core that keeps everything in one folder."""
    return {
        **os.environ,
        "MODELDECK_HOME": f"{folder}/home",
        "HF_HOME": f"{folder}/hf",
        "HF_ENDPOINT": hub_url,
        "MODELDECK_DOWNLOADS_DISK_FLOOR_BYTES": "0",
    }


async def furnish(client: Client, hub: DemoHub) -> None:
    """Have something of everything: loaded, downloaded, failed, held, and under way."""

    async def ended(name: str, *states: str) -> None:
        await client.feed.until(
            lambda s: any(d.unique == name and d.state in states for d in s.downloads.values())
        )

    for name in (TINY, EMBED):
        await client.download(name)
        await ended(name, "completed")
    await client.download(CORRUPT)
    await ended(CORRUPT, "failed")
    hub.rate_bytes_per_s = 20_000
    _, job = await client.download(SPLIT)
    assert job is not None
    await ended(SPLIT, "downloading")
    await client.pause_download(job.id)
    await client.download(PADDED)
    await ended(PADDED, "downloading")
    await client.loaded(TINY, LoadOptions(context_length=4096))


class Person:
    """The hands and eyes before one dashboard."""

    def __init__(self, app: Dashboard, pilot: Pilot[None], kept: Kept) -> None:
        self.app = app
        self._pilot = pilot
        self._kept = kept

    @property
    def text(self) -> str:
        """What is drawn, line by line."""
        strips = self.app.screen._compositor.render_strips()
        return "\n".join(strip.text.rstrip() for strip in strips)

    async def press(self, *keys: str) -> None:
        """Press keys."""
        await self._pilot.press(*keys)

    async def sees(self, *words: str) -> None:
        """Wait until the words are drawn."""
        late = time.monotonic() + PATIENCE_S
        while not all(word in self.text for word in words):
            if time.monotonic() > late:
                raise SystemExit(f"{words} never came:\n{self.text}")
            await asyncio.sleep(0.02)
            await self._pilot.pause()

    async def picture(self, name: str) -> Picture:
        """What is drawn, as SVG, as soon as it is what is kept, or else when it stays as it is."""
        kept, svg = self._kept(name), await self._svg(name)
        since, wait_s = time.monotonic(), DIFFERENT_S if kept else STILL_S
        while svg != kept and time.monotonic() - since < wait_s:
            await asyncio.sleep(0.1)
            before, svg = svg, await self._svg(name)
            if svg != before and not kept:
                since = time.monotonic()
        return name, svg

    async def _svg(self, name: str) -> str:
        """What is drawn now; a cursor does not blink."""
        for field in self.app.screen.query(Input):
            field.cursor_blink = False
        for area in self.app.screen.query(TextArea):
            area.cursor_blink = False
        await self._pilot.pause()
        svg = self.app.export_screenshot(title="modeldeck")
        return re.sub(r"terminal-\d+", name, svg)  # a hash of the whole, else

    async def at_sizes(
        self, name: str, *words: str, sizes: Sequence[tuple[int, int]] = SIZES
    ) -> AsyncIterator[Picture]:
        """A picture at each of the sizes."""
        for width, height in sizes:
            await self._pilot.resize_terminal(width, height)
            await self.sees(*words)
            yield await self.picture(f"{name}-{width}x{height}")
        await self._pilot.resize_terminal(*SIZES[0])


def attached(core: CoreProcess) -> Attach:
    """A frozen client of the core."""

    @asynccontextmanager
    async def attach() -> AsyncIterator[Client]:
        async with FrozenClient(socket=core.socket) as client:
            yield client

    return attach


@asynccontextmanager
async def dashboard(
    cores: Attach | Sequence[FleetMachine], kept: Kept, size: tuple[int, int] = SIZES[0]
) -> AsyncIterator[Person]:
    """A dashboard that is looked at."""
    with TemporaryDirectory() as folder:
        app = Dashboard(
            cores,
            DashboardOptions(
                glyphs=UNICODE,
                settings=Tui(),
                keymap={},
                themes=theme.load(None),
                open_chats=lambda: open_chats(Path(folder) / "chats.db"),
            ),
        )
        async with app.run_test(size=size) as pilot:
            yield Person(app, pilot, kept)
        await app.close_chats()


async def empty(core: CoreProcess, kept: Kept) -> AsyncIterator[Picture]:
    """Screens on which there is nothing yet."""
    async with dashboard(attached(core), kept, (80, 24)) as person:
        await person.sees("BGE Small")
        for key, name in (("2", "downloads"), ("3", "memory"), ("4", "chat")):
            await person.press(key)
            await person.sees("gpubox")
            yield await person.picture(f"empty-{name}")


async def screens(core: CoreProcess, kept: Kept) -> AsyncIterator[Picture]:
    """The five screens, at every size."""
    async with dashboard(attached(core), kept) as person:
        await person.sees("BGE Small", "● 1 loaded")
        async for picture in person.at_sizes("catalog", "● 1"):
            yield picture
        await person.press("slash", *"tiny")
        await person.sees("Hugging Face", "deck/tiny-mlx")
        await person.press("enter")
        await person.sees("together")
        yield await person.picture("catalog-search")
        await person.press("2")
        async for picture in person.at_sizes("downloads", "37 %"):
            yield picture
        lived(person.app.query_one(MemoryView).past.machine)
        await person.press("3")
        async for picture in person.at_sizes("memory", "● 1 tiny"):
            yield picture
        await person.press("d")
        await person.sees("repositories", "main")
        yield await person.picture("disk")
        await person.press("4")
        await person.press(*"Please count to ten.", "enter")
        await person.sees(expected("count").split()[0], "tok/s")
        async for picture in person.at_sizes("chat", "tok/s"):
            yield picture
        await person.press("escape", "5")
        await person.press("S")
        async for picture in person.at_sizes("log", "audit"):
            yield picture
        await person.press("question_mark")
        await person.sees("Everywhere")
        yield await person.picture("help")


async def fleet(core: CoreProcess, other: CoreProcess, kept: Kept) -> AsyncIterator[Picture]:
    """This machine and another one, asked which would serve a model."""
    machines = (
        FleetMachine("", CoreLink(attached(core))),
        FleetMachine("gpu1", CoreLink(attached(other)), "socket", is_late=True),
    )
    async with dashboard(machines, kept) as person:
        await person.sees("BGE Small")
        await person.press("6")
        await person.sees("2 machines", "gpu1", "this one", "socket")
        await person.press("f", *TINY, *" 4k", "enter")
        words = ("1st loaded", "2nd downloads")
        async for picture in person.at_sizes("fleet", *words, sizes=SIZES[:2]):
            yield picture


async def reconnecting(core: CoreProcess, kept: Kept) -> AsyncIterator[Picture]:
    """The core goes away while it is looked at."""
    async with dashboard(attached(core), kept, (80, 24)) as person:
        await person.sees("● 1 loaded", " fits ")
        core.stop()
        await person.sees("reconnecting, 3 s")
        yield await person.picture("reconnecting")


async def failed(kept: Kept) -> AsyncIterator[Picture]:
    """A core that does not start."""

    @asynccontextmanager
    async def attach() -> AsyncIterator[Client]:
        raise DeckError(
            "The core did not start.",
            "See ~/.local/state/modeldeck/log/core.log, or run `modeldeck serve` and watch.",
            details=("core: reading the store", "sqlite3.DatabaseError: file is not a database"),
        )
        yield

    async with dashboard(attach, kept, (80, 24)) as person:
        await person.sees("not a database")
        yield await person.picture("error")


async def offline(core: CoreProcess, kept: Kept) -> AsyncIterator[Picture]:
    """The Hub cannot be reached."""
    async with dashboard(attached(core), kept, (80, 24)) as person:
        await person.sees("BGE Small")
        await person.press("slash", *"qwen3 8b")
        await person.sees("Hugging Face")
        yield await person.picture("offline")
