"""Accepting connections: no more than there is room for, and none while descriptors are short.

asyncio's own server accepts up to a whole backlog before any protocol hears of it, so a burst gets
past every cap; and when descriptors run out it logs a traceback for each connection that waits.
Here each connection is counted when it is accepted: the oldest idle one makes room for it, or it is
closed at once. When the system has no descriptor, accepting pauses and says so once.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import Callable

from modeldeck.core.api.http.connection import HttpConnection
from modeldeck.core.api.http.server_state import ServerState
from modeldeck.core.api.http.tls import TlsHandshake

log = logging.getLogger("modeldeck.core.api")

AT_ONCE = 32
"""Connections accepted before the loop does something else: a few milliseconds."""
PAUSE_S = 0.25
"""Seconds without accepting after the system had no descriptor or memory for a connection."""
REPORT_S = 10.0
"""Seconds between two lines of the log about that."""

EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""What `accept` answers when descriptors or memory are short (POSIX, accept)."""


class Acceptor:
    """Accepts the connections of one listening socket, which it closes in the end."""

    def __init__(
        self,
        listening: socket.socket,
        site: ServerState,
        protocol: Callable[[], HttpConnection | TlsHandshake],
    ) -> None:
        """`protocol` makes what serves a connection; it admits itself to the site."""
        self._socket = listening
        self._site = site
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._resume: asyncio.TimerHandle | None = None
        self._pauses = 0
        self._reported_at = float("-inf")
        self._loop.add_reader(listening, self._accept)

    def close(self) -> None:
        """Accept no more; connections that are there go on."""
        if self._resume is not None:
            self._resume.cancel()
        self._loop.remove_reader(self._socket)
        self._socket.close()

    async def wait_closed(self) -> None:
        """Wait until every connection that was accepted is the site's, or gone."""
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _accept(self) -> None:
        for _ in range(AT_ONCE):
            try:
                connection, _ = self._socket.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError:  # it was gone before it was accepted
                continue
            except OSError as error:
                self._pause(error)
                return
            guest = self._protocol()
            if not self._site.reserve(guest):
                connection.close()
                continue
            connection.setblocking(False)
            task = self._loop.create_task(self._serve(connection, guest))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(self, connection: socket.socket, guest: HttpConnection | TlsHandshake) -> None:
        """Give the connection its transport and its protocol."""
        try:
            await self._loop.connect_accepted_socket(lambda: guest, connection)
        except OSError as error:
            log.info("A connection was lost while it was accepted: %s", error)
            connection.close()
        finally:
            self._site.expected.discard(guest)

    def _pause(self, error: OSError) -> None:
        """Let connections wait in the backlog for a moment."""
        self._loop.remove_reader(self._socket)
        self._resume = self._loop.call_later(PAUSE_S, self._go_on)
        self._pauses += 1
        now = self._loop.time()
        if now - self._reported_at < REPORT_S:
            return
        hint = "Raise the limit of open files." if error.errno in EXHAUSTED else ""
        log.error(
            "No connection can be accepted: %s (%d times). %s",
            error.strerror or error, self._pauses, hint,
        )  # fmt: skip
        self._reported_at, self._pauses = now, 0

    def _go_on(self) -> None:
        self._resume = None
        self._loop.add_reader(self._socket, self._accept)
