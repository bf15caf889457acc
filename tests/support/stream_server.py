"""A server of a few lines, which says what no server of ours would say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

Handle = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


@asynccontextmanager
async def serving(handle: Handle, path: Path | None = None) -> AsyncIterator[int]:
    """The port on loopback whose connections `handle` gets; 0 for a Unix socket at `path`.

    At the end every connection is closed, whatever its client did: one that is left to the garbage
    collector fails some later test.
    """
    handling: list[asyncio.Task[None]] = []
    writers: list[asyncio.StreamWriter] = []

    # Not a coroutine: the tasks are ours, and not asyncio.streams', which waits for none.
    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        handling.append(asyncio.create_task(handle(reader, writer)))

    if path is None:
        server = await asyncio.start_server(accept, "127.0.0.1", 0)
        port: int = server.sockets[0].getsockname()[1]
    else:
        server, port = await asyncio.start_unix_server(accept, path), 0
    try:
        yield port
    finally:
        server.close()
        for task in handling:
            task.cancel()
        await asyncio.gather(*handling, return_exceptions=True)
        for writer in writers:
            writer.transport.abort()
        await asyncio.gather(*(w.wait_closed() for w in writers), return_exceptions=True)
