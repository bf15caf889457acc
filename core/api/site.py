"""What the connections of one listener share."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
import sys
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from core.api.router import Router
from core.api.security import Policy
from core.api.timing import Limits

if TYPE_CHECKING:
    from core.api.connection import Connection
    from core.deck import Deck

log = logging.getLogger("core.api")


@dataclass(slots=True)
class Site:
    """The service, the table, the rules, and who is connected."""

    deck: Deck
    router: Router
    policy: Policy
    limits: Limits = field(default_factory=Limits)
    connections: dict[Connection, None] = field(default_factory=dict)
    """In the order they came."""
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    """Every handler that runs."""
    stopping: bool = False
    deserted: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the last connection is over."""

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a handler in a task that this site owns."""
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("A connection failed.", exc_info=error)

    def admit(self, connection: Connection) -> None:
        """Take a new connection in; at the limit, the oldest idle one has to make room."""
        if len(self.connections) >= self.limits.connections:
            idle = next((old for old in self.connections if old.idle), None)
            (idle or connection).drop()
        self.connections[connection] = None

    def release(self, connection: Connection) -> None:
        """A connection is over."""
        self.connections.pop(connection, None)
        if not self.connections:
            self.deserted.set()

    async def empty(self) -> None:
        """Close every connection, and cut those whose peers do not read."""
        self.deserted.clear()
        for connection in list(self.connections):
            connection.end()
        if self.connections:
            with suppress(TimeoutError):
                async with asyncio.timeout(self.limits.linger_s):
                    await self.deserted.wait()
        for connection in list(self.connections):
            connection.drop()
        await asyncio.sleep(0)  # transports tell of their end in the next round of the loop


def peer_of(transport: asyncio.BaseTransport, *, over_unix: bool) -> str:
    """Who is at the other end, for the audit: `unix uid=1000`, or the address."""
    if not over_unix:
        address = transport.get_extra_info("peername")
        return f"{address[0]}:{address[1]}" if address else "unknown"
    if sys.platform != "linux":
        return f"unix uid={os.getuid()}"  # the socket's mode lets nobody else in, but root
    credentials = transport.get_extra_info("socket").getsockopt(
        socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")
    )
    return f"unix uid={struct.unpack('3i', credentials)[1]}"
