"""Connects one command to the core of this user."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from modeldeck.core.client import daemon
from modeldeck.core.client.client import Client
from modeldeck.core.config.paths import Paths
from modeldeck.core.errors import CoreUnreachable
from modeldeck.tui.remote.core_host import OwnCore


@asynccontextmanager
async def attached(paths: Paths, note: Callable[[str], None]) -> AsyncIterator[Client]:
    """A client of this user's core, which is started when there is none.

    A core that was started here and has nothing to do ends with the block; one with a download
    running or a model loaded keeps running, and `note` is called with that text.
    """
    own = OwnCore(paths)
    try:
        async with own.attach() as client:
            yield client
    finally:
        if own.started and (words := await own.leave()):
            note(words)


@asynccontextmanager
async def existing(paths: Paths) -> AsyncIterator[Client]:
    """A client of the core that runs. Raises CoreUnreachable when there is none."""
    ready = await daemon.find(paths)
    if ready is None:
        raise CoreUnreachable("No core is running.", "`modeldeck serve` starts one.")
    async with daemon.understood(ready).client() as client:
        yield client
