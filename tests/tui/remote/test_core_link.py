"""Work beside the screen that fails: it is told, and ends nothing else."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from modeldeck.core.errors import DeckError
from modeldeck.core.schema import Host, Instance, InstanceState, Memory
from modeldeck.core.schema.state import InstanceChanged, MemoryChanged, State
from modeldeck.tui.remote.core_host import DemoCore
from modeldeck.tui.remote.core_link import CoreLink, LinkState
from tests.support.process import CoreProcess


@pytest.mark.parametrize("bug", [RuntimeError("a bug"), OSError(24, "Too many open files")])
async def test_a_core_that_cannot_be_attached_to_is_a_state_and_no_crash(
    bug: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    @asynccontextmanager
    async def attach() -> AsyncIterator[Any]:
        raise bug
        yield

    link = CoreLink(attach)
    await link.run()
    assert link.status.state is LinkState.FAILED
    assert str(bug) in str(link.status.error)
    assert "Traceback" in caplog.text
    with pytest.raises(DeckError):
        _ = link.client


async def test_a_core_that_cannot_be_brought_back_is_told_and_looked_for(
    core: CoreProcess,
) -> None:
    from modeldeck.core.client.client import Client

    @asynccontextmanager
    async def attach() -> AsyncIterator[Client]:
        async with Client(socket=core.socket) as client:
            yield client

    async def revive() -> bool:
        raise OSError(11, "Resource temporarily unavailable")

    link = CoreLink(attach, revive=revive)
    running = asyncio.create_task(link.run())

    async def until(words: str) -> None:
        async with asyncio.timeout(60):
            while words not in f"{link.status.state} {link.status.error}":  # noqa: ASYNC110 # no event
                await asyncio.sleep(0.01)

    await until("live")
    core.kill()
    await until("temporarily unavailable")
    core.start()
    await until("live")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_demo_that_cannot_be_started_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    host = DemoCore(1000)
    with pytest.raises(DeckError, match="demo cannot be started"):
        async with host.attach():
            pass
    assert await host.leave() is None


async def test_a_link_that_is_begun_anew_keeps_its_client_while_the_one_before_ends(
    core: CoreProcess,
) -> None:
    from modeldeck.core.client.client import Client

    may_end = asyncio.Event()
    clients: list[Client] = []

    @asynccontextmanager
    async def attach() -> AsyncIterator[Client]:
        is_first = not clients
        async with Client(socket=core.socket) as client:
            clients.append(client)
            try:
                yield client
            finally:
                if is_first:
                    await may_end.wait()

    link = CoreLink(attach)
    first = asyncio.create_task(link.run())
    async with asyncio.timeout(60):
        while link.latest is None:  # noqa: ASYNC110 # no event
            await asyncio.sleep(0.01)
    first.cancel()
    second = asyncio.create_task(link.run())
    async with asyncio.timeout(60):
        while len(clients) < 2:  # noqa: ASYNC110 # no event
            await asyncio.sleep(0.01)
    may_end.set()
    await asyncio.gather(first, return_exceptions=True)
    assert link.client is clients[1]
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)


async def test_memory_that_hardly_moves_stands_still_until_a_model_is_loaded() -> None:
    mib = 1 << 20
    seen: list[State] = []

    def memory(seq: int, free: int) -> MemoryChanged:
        return MemoryChanged(seq=seq, memory=Memory(total_bytes=64 * mib, available_bytes=free))

    loaded = Instance(
        id="i", model_id="m", unique="o/m", engine="llama.cpp", state=InstanceState.READY
    )
    items = [
        State(seq=1, host=Host(name="box", version="1", started_at="")),
        memory(2, 50 * mib),
        memory(3, 49 * mib),
        InstanceChanged(seq=4, instance=loaded),
        memory(4, 1 * mib),  # known already
        memory(5, 48 * mib),
    ]

    async def feed() -> AsyncIterator[Any]:
        for item in items:
            yield item
            assert link.latest is not None
            seen.append(link.latest)

    @asynccontextmanager
    async def watch(**_: Any) -> AsyncIterator[AsyncIterator[Any]]:
        yield feed()

    async def health() -> None:
        pass

    client: Any = SimpleNamespace(feed=SimpleNamespace(watch=watch), health=health, latency_s=None)

    @asynccontextmanager
    async def attach() -> AsyncIterator[Any]:
        yield client

    link = CoreLink(attach)
    await link.run()
    free = [state.memory.available_bytes for state in seen]
    assert free == [None, 50 * mib, 50 * mib, 50 * mib, 50 * mib, 48 * mib]
    assert seen[2] is seen[1], "nothing is drawn"
