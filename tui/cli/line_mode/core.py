"""The core that a conversation uses: found or started, lost and found again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from modeldeck.core.config.paths import locate
from modeldeck.core.errors import CoreUnreachable
from modeldeck.tui.cli.output import Output
from modeldeck.tui.remote.core_host import OwnCore
from modeldeck.tui.remote.machines import Machine

if TYPE_CHECKING:
    from modeldeck.core.client.client import Client
    from modeldeck.tui.remote.remote_core import FixedCore, SshCore

FIRST_WAIT_S = 0.1
"""Before a lost core is asked again; doubled each time."""
LONGEST_WAIT_S = 2.0


class LineCore:
    """One core and a client of it."""

    def __init__(self, host: OwnCore | SshCore | FixedCore, client: Client, out: Output) -> None:
        self.client = client
        self._host = host
        self._out = out

    async def ensure(self) -> None:
        """Start this user's core where it does not run. Raises DeckError.

        Cores of other machines are left as they are.
        """
        try:
            await self.client.health()
        except CoreUnreachable:
            if not isinstance(self._host, OwnCore):
                return
            self._out.note("Starting the core again.")
            await self._host.begin()
            await self._answering()

    async def recover(self) -> None:
        """Say that the core was lost, and wait until it answers again.

        This user's core is started again where it crashed; one that was stopped on purpose stays
        stopped until something is asked of it. Raises DeckError where it cannot be started.
        """
        try:
            revived = await self._host.revive()
        except CoreUnreachable:  # its machine cannot be reached
            revived = False
        if isinstance(self._host, OwnCore) and not revived and not await self._answers():
            self._out.note("The core was stopped. Your next question starts it again.")
            return
        why = self._host.outage()
        cause = f" {why.error}" if why is not None and why.error is not None else ""
        self._out.note(f"The core stopped.{cause} Waiting for it; ctrl-C ends the wait.")
        await self._answering()
        self._out.note("The core is back; /retry asks again.")

    async def _answers(self) -> bool:
        try:
            await self.client.health()
        except CoreUnreachable:
            return False
        return True

    async def _answering(self) -> None:
        wait_s = FIRST_WAIT_S
        while not await self._answers():
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, LONGEST_WAIT_S)


@asynccontextmanager
async def line_core(machine: Machine, out: Output) -> AsyncIterator[LineCore]:
    """The core of a machine, for as long as the block runs; ssh may ask before. Raises DeckError.

    A core that was started here and has nothing to do ends with the block.
    """
    host: OwnCore | SshCore | FixedCore
    if machine.remote is None:
        host = OwnCore(locate())
    else:
        from modeldeck.tui.remote.remote_core import core_of

        host = core_of(machine)
    try:
        if not isinstance(host, OwnCore):
            await host.reach(batch=False)
        async with host.attach() as client:
            yield LineCore(host, client, out)
    finally:
        leaves = not isinstance(host, OwnCore) or host.started
        if leaves and (words := await host.leave()):
            out.note(words)
