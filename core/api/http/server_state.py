"""State shared by the connections of one listener: routes, limits, open connections, tasks."""

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
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from modeldeck.core.api.http.access import Access, network
from modeldeck.core.api.http.access_log import AccessLog
from modeldeck.core.api.http.error_forms import ErrorStyle
from modeldeck.core.api.http.limits import ConnectionLimits
from modeldeck.core.api.http.meter import RequestMetrics
from modeldeck.core.api.http.rate_limit import RequestLimiter
from modeldeck.core.api.http.request_head import RequestHead
from modeldeck.core.api.http.router import Route, Router
from modeldeck.core.concurrency import report_failure
from modeldeck.core.schema import Token

if TYPE_CHECKING:
    from modeldeck.core.service.deck import Deck

log = logging.getLogger("modeldeck.core.api")


class ConnectionHandle(Protocol):
    """A connection, as `ServerState` uses it."""

    peer: str

    @property
    def idle(self) -> bool:
        """Whether no request is read or answered now."""

    @property
    def is_outside(self) -> bool:
        """Whether the client is on another machine."""

    @property
    def held_bytes(self) -> int:
        """Bytes of request bodies held for this client."""

    @property
    def token(self) -> Token | None:
        """Token of the request that is being answered, if any."""

    def drop(self) -> None:
        """Abort the connection."""

    def end(self) -> None:
        """Close when everything written is sent."""

    def stop(self) -> None:
        """Begin to stop: close if idle, else when the running request is done."""


@dataclass(slots=True, kw_only=True)
class ServerState:
    """State shared by one listener's connections."""

    deck: Deck
    router: Router
    access: Access
    limiter: RequestLimiter
    access_log: AccessLog
    meter: RequestMetrics
    limits: ConnectionLimits = field(default_factory=ConnectionLimits)
    per_address: int = 64
    """Limit of connections from each address of another machine."""
    connections: dict[ConnectionHandle, None] = field(default_factory=dict)
    """Open connections, oldest first."""
    tasks: set[asyncio.Task[None]] = field(default_factory=set)
    """Running handlers and TLS handshakes."""
    expected: set[ConnectionHandle] = field(default_factory=set)
    """Connections that were accepted and are not in `connections` yet."""
    decoding: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while a large body is decoded: several at once would keep the loop waiting."""
    stopping: bool = False
    no_connections: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the last connection is closed."""

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a handler in a task that is awaited when the listener stops."""
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            report_failure("A connection", error)

    @property
    def is_over_held_bytes(self) -> bool:
        """Whether the bodies of all connections together exceed `ConnectionLimits.held_bytes`."""
        return sum(each.held_bytes for each in self.connections) > self.limits.held_bytes

    def error_style(self, route: Route | None, head: RequestHead | None) -> ErrorStyle:
        """The form of the errors of a request."""
        if route is not None or head is None:
            return route.error_style if route is not None else "json"
        return self.router.error_style(head.path, head.headers)

    def reserve(self, connection: ConnectionHandle) -> bool:
        """Reserve a place for an accepted connection; False where there is none.

        At the limit the oldest idle connection is dropped.
        """
        held = len(self.connections) + len(self.expected)
        if held >= self.limits.connections and not self._make_room(self.connections, "limit"):
            return False
        self.expected.add(connection)
        return True

    def admit(self, connection: ConnectionHandle) -> None:
        """Add a connection, or drop it where its address has too many.

        `per_address` keeps one address of another machine from using all connections. At that limit
        the oldest idle connection of the address is dropped.
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

        It is released at once, so that in a burst the next connection neither counts nor chooses
        it.
        """
        self.meter.refused[reason] += 1
        idle = next((old for old in others if old.idle), None)
        if idle is None:
            return False
        idle.drop()
        self.release(idle)
        return True

    def release(self, connection: ConnectionHandle) -> None:
        """Remove a connection that was closed."""
        self.connections.pop(connection, None)
        self.meter.connections = len(self.connections)
        if not self.connections:
            self.no_connections.set()

    def revoked(self, token: Token) -> None:
        """Drop the connections that use a revoked token."""
        for connection in list(self.connections):
            if connection.token is not None and connection.token.id == token.id:
                connection.drop()

    async def empty(self) -> None:
        """Close every connection; after `linger_s`, drop those that are still open."""
        self.no_connections.clear()
        for connection in list(self.connections):
            connection.end()
        if self.connections:
            with suppress(TimeoutError):
                async with asyncio.timeout(self.limits.linger_s):
                    await self.no_connections.wait()
        for connection in list(self.connections):
            connection.drop()
        await asyncio.sleep(0)  # `connection_lost` is called in the next iteration of the loop


def peer_of(transport: asyncio.BaseTransport, *, over_unix: bool) -> str:
    """The client, for the audit: `unix uid=1000 pid=77`, or address and port."""
    if not over_unix:
        address = transport.get_extra_info("peername")
        if not address:
            return "unknown"
        host = f"[{address[0]}]" if ":" in address[0] else address[0]
        return f"{host}:{address[1]}"
    if sys.platform != "linux":
        return f"unix uid={os.getuid()}"  # the socket's mode keeps others out, except root
    pid, uid = _credentials(transport)
    return f"unix uid={uid} pid={pid}"


def _credentials(transport: asyncio.BaseTransport) -> tuple[int, int]:
    """Process and user id of the program behind a Unix socket on Linux (unix(7))."""
    credentials = transport.get_extra_info("socket").getsockopt(
        socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")
    )
    pid, uid, _ = struct.unpack("3i", credentials)
    return pid, uid


def program_of(transport: asyncio.BaseTransport, *, over_unix: bool) -> str:
    """Name and process id of the program that opened a Unix socket, such as `python3 8120`.

    `local` for other connections, and where the system does not tell: the process may be in another
    namespace, or gone.
    """
    if not over_unix or sys.platform != "linux":
        return "local"
    pid, _ = _credentials(transport)
    try:
        name = Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    except OSError:
        return "local"
    return f"{name} {pid}" if name else "local"
