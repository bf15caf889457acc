"""Reopens an SSH connection whenever it breaks, without prompting, with growing waits."""

from __future__ import annotations

import asyncio
import time

from modeldeck.core.concurrency import unexpected
from modeldeck.core.errors import DeckError, Forbidden
from modeldeck.core.remote.outage import ConnectionLost
from modeldeck.core.remote.ssh_connection import SshConnection

FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 20.0
"""Seconds between two attempts to reconnect; doubled with each."""
UNASKED_WAIT_S = 300.0
"""The same where `ssh` would have to ask: to the other machine each try is a login that failed, and
some block the user after a few of those."""
TICK_S = 2.0
SLEPT_S = 10.0
"""A clock that jumps by more than this between two ticks: the machine slept, the line is dead."""


class Keeper:
    """Keeps one SSH connection open for as long as `run` runs."""

    def __init__(self, line: SshConnection) -> None:
        self._line = line
        self._making = asyncio.Lock()
        self.outage: ConnectionLost | None = None
        """Why the line is down, and when it is tried again; None while it is up."""

    async def make(self, *, batch: bool) -> None:
        """Make the line, unless it is up; without `batch`, `ssh` may ask on the terminal."""
        async with self._making:
            if not self._line.is_up:
                await self._line.open(batch=batch)

    async def run(self) -> None:
        """Make the line again whenever it breaks, until cancelled. No error ends this."""
        while True:
            if self._line.is_up:
                await self._until_broken()
            await self._mend()

    async def _until_broken(self) -> None:
        watch = asyncio.create_task(self._watch_for_sleep())
        try:
            await self._line.broken()
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)

    async def _watch_for_sleep(self) -> None:
        """Close a connection from before a sleep: it is dead, though ssh notices late."""
        before = time.time()
        while True:
            await asyncio.sleep(TICK_S)
            if time.time() - before > SLEPT_S + TICK_S:
                await self._line.drop()
                return
            before = time.time()

    async def _mend(self) -> None:
        wait_s, error = FIRST_WAIT_S, self._line.trouble()
        while True:
            self.outage = ConnectionLost(error=error, retry_at=time.monotonic() + wait_s)
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)
            try:
                await self.make(batch=True)
            except DeckError as again:
                error = again
                if isinstance(error, Forbidden):
                    wait_s = UNASKED_WAIT_S
            except Exception as bug:
                error = unexpected(bug)
            else:
                self.outage = None
                return
