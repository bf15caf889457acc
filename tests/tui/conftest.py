"""What every test of the front end has: a terminal of all colours, whatever runs the tests."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from modeldeck.core.client.client import Client
from modeldeck.core.demo.hub import DemoHub
from tests.support.process import CoreProcess

PATIENCE_S = 30.0
"""How long a test waits for what has to come."""


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of a good terminal on this machine; tests take away what they want gone."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")
    for name in ("NO_COLOR", "SSH_CONNECTION", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
async def undebugged() -> None:
    """Textual's tasks, hundreds for each key, take a third longer where asyncio looks on."""
    asyncio.get_running_loop().set_debug(False)


@pytest.fixture(autouse=True)
def idle(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pilot waits until the dashboard is idle, not the hub in the thread beside it.

    Textual takes the time of the whole process for that, and waits two seconds for every key that
    is pressed while a download runs.
    """
    monkeypatch.setattr("textual._wait.process_time", time.thread_time)
    monkeypatch.setattr("textual._wait.SLEEP_GRANULARITY", 0.01)


@pytest.fixture
def tidy_core(
    shared_core: CoreProcess, shared_hub: DemoHub, monkeypatch: pytest.MonkeyPatch
) -> Iterator[CoreProcess]:
    """The module's core as that of this person; what a test leaves in it is taken away again."""
    monkeypatch.setenv("MODELDECK_HOME", str(shared_core.home))
    monkeypatch.setenv("HF_HOME", str(shared_core.home.parent / "hf"))
    yield shared_core
    asyncio.run(emptied(shared_core, shared_hub))


async def emptied(core: CoreProcess, hub: DemoHub) -> None:
    """Take away what a test left: nothing loaded, no files, no jobs, an honest hub."""
    hub.online, hub.rate_bytes_per_s, hub.latency_s = True, None, 0.0
    hub.faults.clear()
    async with asyncio.timeout(PATIENCE_S), Client(socket=core.socket) as client:
        state = await client.state()
        for instance in state.instances.values():
            await client.unload(instance.id)
        for job in state.downloads.values():
            await client.cancel_download(job.id, discard=True)
            await client.remove_download(job.id)
        here = [m.id for m in state.models.values() if m.downloaded and not m.local]
        if here:
            await client.delete_cached(here, force=True)
        for model in state.models.values():
            if model.custom:
                await client.delete_model(model.id)
        await client.change_settings(
            memory_budget_bytes=None,
            rate_limit_bytes_per_s=None,
            schedule={},
            give_way=False,
            jobs_at_once=2,
        )
        await client.feed.until(lambda s: not s.instances and not s.downloads)
