"""The listener: one Unix socket and one TCP port on loopback, and how they stop."""

from __future__ import annotations

import asyncio
import errno
import socket
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from core.api.connection import Connection
from core.api.router import Route, Router
from core.api.routes import ROUTES
from core.api.security import policy
from core.api.site import Site, log
from core.api.timing import Limits
from core.config import DOCUMENTED_PORTS, Api
from core.errors import Conflict, StorageFailed
from core.paths import Paths, make_private

if TYPE_CHECKING:
    from core.deck import Deck

LOOPBACK = "127.0.0.1"

BACKLOG = 128
"""Connections that wait to be accepted: what a scan or a burst of scripts brings at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """Where the API answers."""

    url: str
    """Over TCP, without a slash at the end."""
    port: int
    socket: str | None
    """Path of the Unix socket; None where it is switched off."""


class Listener:
    """Serves the API of one deck until it is stopped."""

    def __init__(
        self,
        deck: Deck,
        settings: Api,
        paths: Paths,
        *,
        routes: Iterable[Route] | None = None,
        limits: Limits | None = None,
    ) -> None:
        """`routes` and `limits` are for tests; without them the whole table, and the defaults."""
        self._settings = settings
        self._paths = paths
        self._site = Site(
            deck,
            Router(ROUTES if routes is None else routes),
            policy(settings.allowed_hosts, settings.allowed_origins),
            limits or Limits(),
        )
        self._servers: list[asyncio.Server] = []
        self._socket_path: Path | None = None

    async def start(self) -> Addresses:
        """Bind and answer. Raises Conflict when no port is free, StorageFailed for the socket."""
        loop = asyncio.get_running_loop()
        bound = _bind(self._settings.port)
        try:
            if self._settings.socket:
                unix = _bind_unix(self._paths.socket)
                self._socket_path = self._paths.socket
                self._servers.append(
                    await loop.create_unix_server(
                        lambda: Connection(self._site, over_unix=True), sock=unix, backlog=BACKLOG
                    )
                )
        except BaseException:
            bound.close()
            raise
        self._servers.append(
            await loop.create_server(
                lambda: Connection(self._site, over_unix=False), sock=bound, backlog=BACKLOG
            )
        )
        port = bound.getsockname()[1]
        path = str(self._socket_path) if self._socket_path else None
        return Addresses(url=f"http://{LOOPBACK}:{port}", port=port, socket=path)

    async def stop(self) -> None:
        """End in order; harmless when repeated.

        1. Take no new connections. 2. End idle ones, close sockets with 1001, refuse new requests.
        3. Give running requests their grace. 4. Cancel what is left. 5. Close every connection.
        """
        for server in self._servers:
            server.close()
        self._servers.clear()
        self._site.stopping = True
        for connection in list(self._site.connections):
            connection.stop()
        if self._site.tasks:
            await asyncio.wait(self._site.tasks, timeout=self._site.limits.grace_s)
        for task in self._site.tasks:
            log.warning("A request was cut short because the core stops.")
            task.cancel()
        if self._site.tasks:
            await asyncio.wait(self._site.tasks)
        await self._site.empty()
        if self._socket_path is not None:
            self._socket_path.unlink(missing_ok=True)
            self._socket_path = None


def _bind(wanted: int | None) -> socket.socket:
    """A socket bound to the wanted port, or to the first of the documented ones that can be had."""
    refusals: list[str] = []
    for port in DOCUMENTED_PORTS if wanted is None else (wanted,):
        candidate = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            # Without it a port stays taken for a minute after a core that had clients has ended.
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            candidate.bind((LOOPBACK, port))
            candidate.listen(BACKLOG)  # two may bind one port, but only one may listen
            candidate.setblocking(False)
            return candidate
        except OSError as error:
            candidate.close()
            if error.errno not in (errno.EADDRINUSE, errno.EACCES, errno.EPERM):
                raise
            refusals.append(f"{port}: {error.strerror}")
    raise Conflict(
        "The API has no port to answer on." if wanted is None else f"Port {wanted} cannot be used.",
        "Free it, or choose another with --port or api.port (0 takes any free one).",
        details=tuple(refusals),
    )


def _bind_unix(path: Path) -> socket.socket:
    """A Unix socket that only its owner can reach: mode 0600 in a folder of mode 0700.

    What lies there is left over by a core that was killed: the lock of the state folder tells that
    no other one runs.
    """
    unix = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        make_private(path.parent)
        if path.is_socket():
            path.unlink()
        unix.bind(str(path))
        path.chmod(stat.S_IRUSR | stat.S_IWUSR)
        unix.setblocking(False)
        return unix
    except OSError as error:
        unix.close()
        raise StorageFailed(
            f"The socket {path} cannot be made: {error.strerror}.",
            "Remove what is there, or set MODELDECK_RUNTIME_DIR to a folder of your own.",
        ) from error
