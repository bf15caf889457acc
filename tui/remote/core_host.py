"""Cores that a dashboard can attach to: this user's own, and the demo's.

`attach` and `revive` run while the dashboard is drawn, `leave` after it has closed. The client
library is imported when it is first needed, so that the first frame does not wait for it.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib import import_module
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING, Protocol

from modeldeck.tui.remote.machines import LOCAL

if TYPE_CHECKING:
    from modeldeck.core.client.client import Client
    from modeldeck.core.client.daemon import CoreReady
    from modeldeck.core.config.paths import Paths
    from modeldeck.core.remote.outage import ConnectionLost
    from modeldeck.core.schema.state import State

LAST_LINES = 8
"""Lines of the demo's standard error shown when it does not start."""
LAST_BYTES = 64 << 10
"""Bytes at the end of its standard error that are searched for them."""
START_S = 90.0
"""For the demo to make its models and to answer: a second, and more on a small machine."""
STOP_S = 40.0
"""For the demo to end and remove its folder: as long as a core may take, see `client.daemon`."""


class CoreHost(Protocol):
    """Finds or starts one core, and ends it where the dashboard started it."""

    def attach(self) -> AbstractAsyncContextManager[Client]:
        """A client of the core, for as long as the block runs. Raises DeckError."""

    async def revive(self) -> bool:
        """Restart the core if it crashed. Return False where it was stopped on purpose."""

    async def leave(self) -> str | None:
        """Detach from the core. Return a line to print after the dashboard, or None."""

    def outage(self) -> ConnectionLost | None:
        """Why the connection to its machine is down; None where it is up or not needed."""


class Carrier(Protocol):
    """Sockets that connect the cores of two machines during a copy."""

    @property
    def here(self) -> str:
        """The Unix socket on this machine where it answers. Raises Conflict: there is none."""

    def lent(self, socket: str) -> AbstractAsyncContextManager[str]:
        """Forward a socket of this machine to its own; gives the path there."""


class ReachableCore(CoreHost, Protocol):
    """The core of one of several machines: models are copied from it, and to it."""

    name: str
    """Of its machine."""

    async def ask(self) -> None:
        """Reconnect to its machine; ssh may ask on the terminal. Raises DeckError."""

    def bulk(self) -> AbstractAsyncContextManager[Carrier]:
        """An uncompressed connection for weights while the block runs. Raises DeckError."""


class OwnCore:
    """The core of this user, which is started in the background when there is none."""

    name = LOCAL

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self.started = False
        """Whether the core is one that was started here."""

    @asynccontextmanager
    async def attach(self) -> AsyncIterator[Client]:
        """A client of the core that runs, or of one that is started now."""
        await asyncio.to_thread(import_module, "modeldeck.core.client.daemon")
        from modeldeck.core.client import daemon

        ready = await daemon.find(self._paths) or await self.begin()
        async with daemon.understood(ready).client() as client:
            yield client

    def outage(self) -> ConnectionLost | None:
        """Return None: the core is reached without ssh."""
        return None

    async def ask(self) -> None:
        """Do nothing: the core is reached without ssh."""

    @asynccontextmanager
    async def bulk(self) -> AsyncIterator[Carrier]:
        """Give itself: the core is on this machine."""
        yield self

    @property
    def here(self) -> str:
        """The core's own socket."""
        return str(self._paths.socket)

    @asynccontextmanager
    async def lent(self, socket: str) -> AsyncIterator[str]:
        """It is on this machine already."""
        yield socket

    async def begin(self) -> CoreReady:
        """Start a core in the background, or use one that another process has just started."""
        from modeldeck.core.client import daemon

        ready, self.started = await daemon.begin(self._paths)
        return ready

    async def revive(self) -> bool:
        """Restart a core that crashed; one that was stopped stays stopped."""
        from modeldeck.core.client import daemon

        if not await asyncio.to_thread(daemon.crashed, self._paths):
            return False
        await self.begin()
        return True

    async def leave(self) -> str | None:
        """End an idle core that was started here; return a line about one that stays busy."""
        from modeldeck.core.client import daemon
        from modeldeck.core.errors import DeckError

        try:
            ready = await daemon.find(self._paths)
            if ready is None:
                return None
            async with ready.client() as client:
                reasons = busy_with(await client.state())
            if reasons:
                return f"The core keeps running: {' and '.join(reasons)}. `modeldeck stop` ends it."
            if self.started:
                await daemon.stop(self._paths)
        except DeckError as error:
            return f"modeldeck: {error}"
        return None


def busy_with(state: State) -> list[str]:
    """Reasons to keep a core running, as clauses for a sentence."""
    from modeldeck.tui.text import records

    jobs, loaded = len(records.running(state)), len(records.live(state))
    reasons = []
    if jobs:
        reasons.append("a download is running" if jobs == 1 else f"{jobs} downloads are running")
    if loaded:
        reasons.append("a model is loaded" if loaded == 1 else f"{loaded} models are loaded")
    return reasons


class DemoCore:
    """A core and a hub of their own, in a process that ends with this one and leaves nothing."""

    def __init__(self, rate_bytes_per_s: int, port: int = 0) -> None:
        self._arguments = (str(rate_bytes_per_s), str(port))
        self._process: subprocess.Popen[bytes] | None = None
        self._log: IO[bytes] | None = None
        """What the process writes to standard error."""

    @asynccontextmanager
    async def attach(self) -> AsyncIterator[Client]:
        """A client of the demo's core."""
        await asyncio.to_thread(import_module, "modeldeck.core.client.client")
        import msgspec

        from modeldeck.core.client.daemon import CoreReady, CoreRefused
        from modeldeck.core.errors import DeckError
        from modeldeck.core.schema.errors import from_info

        if self._process is not None:
            await asyncio.to_thread(self._end, self._process)
        answer = await self._start()
        try:
            ready = msgspec.json.decode(answer, type=CoreReady)
        except msgspec.DecodeError:
            try:
                raise from_info(msgspec.json.decode(answer, type=CoreRefused).error) from None
            except msgspec.DecodeError:
                raise DeckError("The demo did not start.", details=self._last_lines()) from None
        async with ready.client() as client:
            yield client

    async def _start(self) -> bytes:
        """Start hub and core: the line they answer, empty when they say nothing."""
        from modeldeck.core.errors import DeckError

        try:
            self._log = TemporaryFile()  # noqa: SIM115 (closed in `_end`, or below)
            self._process = subprocess.Popen(  # noqa: ASYNC220 (returns at once)
                [sys.executable, "-P", "-m", "modeldeck.core.demo.serving", *self._arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                start_new_session=True,
            )
        except OSError as error:
            if self._log is not None:
                self._log.close()
            raise DeckError(f"The demo cannot be started: {error}.") from error
        assert self._process.stdout is not None
        reader = asyncio.StreamReader()
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), self._process.stdout
        )
        try:
            return await asyncio.wait_for(reader.readline(), START_S)
        except (TimeoutError, ValueError):  # it said nothing, or no one line
            return b""
        finally:
            transport.close()

    def _last_lines(self) -> tuple[str, ...]:
        if self._log is None:
            return ()
        start = max(0, os.fstat(self._log.fileno()).st_size - LAST_BYTES)
        text = os.pread(self._log.fileno(), LAST_BYTES, start).decode(errors="replace")
        return tuple(text.splitlines()[-LAST_LINES:])

    async def revive(self) -> bool:
        """Nothing to do: the demo's process starts its core again by itself."""
        return False

    def outage(self) -> ConnectionLost | None:
        """Return None: the core is reached without ssh."""
        return None

    async def leave(self) -> str | None:
        """End it all."""
        if self._process is None:
            return None
        await asyncio.to_thread(self._end, self._process)
        return "The demo has ended; what it wrote is removed."

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        finally:
            if self._log is not None:
                self._log.close()
