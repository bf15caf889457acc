"""Giving way to a front end whose line is slow: the core's own pings through a proxy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from modeldeck.core.client.client import Client
from modeldeck.core.schema.state import State
from tests.support.process import CoreProcess

PADDED = "deck/padded-GGUF:F16"
LIMIT = 500_000
"""Bytes a second: the model takes longer than the test."""
PATIENCE_S = 60.0


class Line:
    """A proxy to the core that holds everything up for `delay_s`, each way of it."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self.delay_s = 0.0
        self.heard = 0
        """How often the front end sent something."""
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[str]:
        """Serve it; the URL."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = await asyncio.open_connection(self._target.hostname, self._target.port)
        for source, sink, counted in ((reader, there[1], 1), (there[0], writer, 0)):
            task = asyncio.create_task(self._pass_on(source, sink, counted))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass_on(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, counted: int
    ) -> None:
        try:
            while data := await source.read(1 << 16):
                self.heard += counted
                await asyncio.sleep(self.delay_s)
                sink.write(data)
                await sink.drain()
        except ConnectionError:
            pass
        finally:
            sink.close()


async def _until(states: AsyncIterator[State], good: Callable[[State], bool]) -> State:
    async with asyncio.timeout(PATIENCE_S):
        async for state in states:
            if good(state):
                return state
    raise AssertionError("the feed ended")


async def test_downloads_give_way_to_a_front_end_that_waits(core: CoreProcess) -> None:
    line = Line(core.url)
    async with (
        line.open() as url,
        Client(socket=core.socket) as owner,
        Client(url=url) as far,
    ):
        await owner.change_settings(give_way=True, rate_limit_bytes_per_s=LIMIT)
        async with far.feed.states() as states:
            await owner.download(PADDED)
            await _until(states, lambda s: any(d.rate_bytes_per_s for d in s.downloads.values()))
            heard = line.heard
            await _until(states, lambda _: line.heard >= heard + 2)  # answers to pings
            line.delay_s = 0.5
            state = await _until(states, lambda s: s.settings.rate_reason == "give way")
            held = state.settings.rate_in_force_bytes_per_s
            assert held is not None
            assert held < LIMIT
            assert state.settings.rate_limit_bytes_per_s == LIMIT
            line.delay_s = 0.0
            lowest = held

            def grows(state: State) -> bool:
                nonlocal lowest
                now = state.settings.rate_in_force_bytes_per_s or LIMIT
                before, lowest = lowest, min(lowest, now)
                return now > before

            await _until(states, grows)
