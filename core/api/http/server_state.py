"""What the connections of one listener share."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
import sys
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from modeldeck.core.api.http.access import Access, network
from modeldeck.core.api.http.access_log import AccessLog
from modeldeck.core.api.http.compression import ResponseEncoder
from modeldeck.core.api.http.limits import ConnectionLimits
from modeldeck.core.api.http.meter import RequestMetrics
from modeldeck.core.api.http.rate_limit import RequestLimiter
from modeldeck.core.api.http.router import Router
from modeldeck.core.concurrency import report_failure
from modeldeck.core.schema import Token

if TYPE_CHECKING:
    from modeldeck.core.service.deck import Deck

log = logging.getLogger("modeldeck.core.api")


class ConnectionHandle(Protocol):
    """A connection, as the others' keeper sees it."""

    peer: str

    @property
    def idle(self) -> bool:
        """Whether nothing is being asked or answered."""

    @property
    def is_outside(self) -> bool:
        """Whether it came from beyond this machine."""

    @property
    def held_bytes(self) -> int:
        """Of bodies."""

    @property
    def token(self) -> Token | None:
        """The token of what is being answered, if any."""

    def drop(self) -> None:
        """End it without a word."""

    def end(self) -> None:
        """End it when what was written is sent."""

    def stop(self) -> None:
        """Begin to end it: the listener stops."""


@dataclass(slots=True, kw_only=True)
class ServerState:
    """The service, the table, the rules, and who is connected."""

    deck: Deck
    router: Router
    access: Access
    limiter: RequestLimiter
    journal: AccessLog
    meter: RequestMetrics
    limits: ConnectionLimits = field(default_factory=ConnectionLimits)
    per_address: int = 64
    """Connections from each address beyond this machine."""
    content: ResponseEncoder = field(default_factory=ResponseEncoder)
    connections: dict[ConnectionHandle, None] = field(default_factory=dict)
    """In the order they came."""
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    """Every handler that runs."""
    expected: set[ConnectionHandle] = field(default_factory=set)
    """Connections that were accepted and are not in `connections` yet."""
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
            report_failure("A connection", error)

    @property
    def is_laden(self) -> bool:
        """Whether the bodies of all connections together are as much as may be held."""
        return sum(each.held_bytes for each in self.connections) > self.limits.held_bytes

    def reserve(self, connection: ConnectionHandle) -> bool:
        """Room for a connection that was just accepted; False where there is none.

        At the limit the oldest idle one has to go.
        """
        held = len(self.connections) + len(self.expected)
        if held >= self.limits.connections and not self._make_room(self.connections, "limit"):
            return False
        self.expected.add(connection)
        return True

    def admit(self, connection: ConnectionHandle) -> None:
        """Take a connection in; one beyond what its address may have is dropped.

        One address beyond this machine may not take all the room there is: at its limit, its oldest
        idle connection has to go.
        """
        self.expected.discard(connection)
        if connection.is_outside:
            near = network(connection.peer)
            others = [c for c in self.connections if c.is_outside and network(c.peer) == near]
            if len(others) >= self.per_address and not self._make_room(others, "address"):
                connection.drop()
                return
        self.connections[connection] = None
        self.meter.connections = len(self.connections)

    def _make_room(self, others: Iterable[ConnectionHandle], reason: str) -> bool:
        """Drop the oldest idle connection; False where none is idle.

        It is over from now on: in a burst the next one must not count it, or choose it again.
        """
        self.meter.refused[reason] += 1
        idle = next((old for old in others if old.idle), None)
        if idle is None:
            return False
        idle.drop()
        self.release(idle)
        return True

    def release(self, connection: ConnectionHandle) -> None:
        """A connection is over."""
        self.connections.pop(connection, None)
        self.meter.connections = len(self.connections)
        if not self.connections:
            self.deserted.set()

    def revoked(self, token: Token) -> None:
        """Cut off whoever is here by a token that holds no more."""
        for connection in list(self.connections):
            if connection.token is not None and connection.token.id == token.id:
                connection.drop()

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
    """Who is at the other end, for the audit: `unix uid=1000 pid=77`, or address and port."""
    if not over_unix:
        address = transport.get_extra_info("peername")
        if not address:
            return "unknown"
        host = f"[{address[0]}]" if ":" in address[0] else address[0]
        return f"{host}:{address[1]}"
    if sys.platform != "linux":
        return f"unix uid={os.getuid()}"  # the socket's mode lets nobody else in, but root
    credentials = transport.get_extra_info("socket").getsockopt(
        socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")
    )
    pid, uid, _ = struct.unpack("3i", credentials)
    return f"unix uid={uid} pid={pid}"
