"""Accepts connections, within the connection limit, and pauses while descriptors are short.

asyncio's own server accepts a whole backlog before any protocol is called, so a burst exceeds every
limit; and when descriptors run out it logs a traceback for each waiting connection. Here each
connection is counted when it is accepted: the oldest idle one is dropped for it, or it is closed at
once. When the system has no descriptor, accepting pauses and that is logged once.
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
"""Connections accepted in one iteration of the event loop: a few milliseconds."""
PAUSE_S = 0.25
"""Seconds without accepting after `accept` failed for lack of descriptors or memory."""
REPORT_S = 10.0
"""Seconds between two log lines about that."""

EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""Errors of `accept` when descriptors or memory are short (POSIX, accept)."""


class Acceptor:
    """Accepts the connections of one listening socket, and closes that socket."""

    def __init__(
        self,
        listening: socket.socket,
        server: ServerState,
        protocol: Callable[[], HttpConnection | TlsHandshake],
    ) -> None:
        """`protocol` makes the protocol of a connection, which calls `ServerState.admit`."""
        self._socket = listening
        self._server = server
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._resume: asyncio.TimerHandle | None = None
        self._pauses = 0
        self._reported_at = float("-inf")
        self._loop.add_reader(listening, self._accept)

    def close(self) -> None:
        """Accept no more; open connections go on."""
        if self._resume is not None:
            self._resume.cancel()
        self._loop.remove_reader(self._socket)
        self._socket.close()

    async def wait_closed(self) -> None:
        """Wait until every accepted connection is in `ServerState.connections`, or gone."""
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
            protocol = self._protocol()
            if not self._server.reserve(protocol):
                connection.close()
                continue
            connection.setblocking(False)
            task = self._loop.create_task(self._serve(connection, protocol))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _serve(
        self, connection: socket.socket, protocol: HttpConnection | TlsHandshake
    ) -> None:
        """Give the connection its transport and its protocol."""
        try:
            await self._loop.connect_accepted_socket(lambda: protocol, connection)
        except OSError as error:
            log.info("A connection was lost while it was accepted: %s", error)
            connection.close()
        finally:
            self._server.expected.discard(protocol)

    def _pause(self, error: OSError) -> None:
        """Accept nothing for `PAUSE_S`; connections wait in the backlog."""
        self._loop.remove_reader(self._socket)
        self._resume = self._loop.call_later(PAUSE_S, self._resume_accepting)
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

    def _resume_accepting(self) -> None:
        self._resume = None
        self._loop.add_reader(self._socket, self._accept)
