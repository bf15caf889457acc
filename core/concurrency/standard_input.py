"""Notices when standard input ends: the process that started this one is gone."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


@asynccontextmanager
async def end_of_input(gone: asyncio.Event) -> AsyncIterator[None]:
    """Set the event when the other end of standard input is closed."""
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )

    async def wait() -> None:
        with suppress(OSError):
            while await reader.read(4096):
                pass
        gone.set()

    task = asyncio.create_task(wait())
    try:
        yield
    finally:
        task.cancel()
        transport.close()
