"""Reaching the core of this user for the time of one command."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from core import daemon
from core.client import Client
from core.errors import CoreUnreachable
from core.paths import Paths
from tui import pages


@asynccontextmanager
async def attached(paths: Paths, note: Callable[[str], None]) -> AsyncIterator[Client]:
    """A client of this user's core, which is started when there is none.

    A core that was started here and has nothing to do ends with the block; one with a download
    running or a model loaded stays, and `note` is told so.
    """
    ready = await daemon.find(paths)
    started = ready is None
    if ready is None:
        ready = await daemon.start_background(paths)
    async with ready.client() as client:
        try:
            yield client
        finally:
            if started:
                with suppress(CoreUnreachable):
                    await _leave(paths, client, note)


async def _leave(paths: Paths, client: Client, note: Callable[[str], None]) -> None:
    state = await client.state()
    loaded, jobs = pages.live(state), pages.running(state)
    if not loaded and not jobs:
        await daemon.stop(paths)
        return
    reasons = []
    if jobs:
        reasons.append("a download is running")
    if loaded:
        reasons.append("a model is loaded")
    note(f"The core keeps running: {' and '.join(reasons)}. `modeldeck stop` ends it.")


@asynccontextmanager
async def existing(paths: Paths) -> AsyncIterator[Client]:
    """A client of the core that runs. Raises CoreUnreachable when there is none."""
    ready = await daemon.find(paths)
    if ready is None:
        raise CoreUnreachable("No core is running.", "`modeldeck serve` starts one.")
    async with ready.client() as client:
        yield client
