"""`LateCore`: the core of a machine, to which nothing is opened before it is attached to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import TYPE_CHECKING

from modeldeck.core.config.paths import locate
from modeldeck.tui.remote.core_host import Carrier, OwnCore
from modeldeck.tui.remote.machines import Machine

if TYPE_CHECKING:
    from modeldeck.core.client.client import Client
    from modeldeck.core.remote.outage import ConnectionLost
    from modeldeck.tui.remote.remote_core import FixedCore, SshCore


class LateCore:
    """The core of a machine, which is connected to by the first `attach`.

    What reaches other machines is imported then, too, so that a dashboard that never shows them
    does not wait for it. Until the machine was reached once, an attempt that fails is an error of
    `attach`; afterwards the connection is reopened by itself.
    """

    def __init__(self, machine: Machine) -> None:
        self.name = machine.name
        self._machine = machine
        self._core: SshCore | FixedCore | OwnCore | None = None
        self._was_reached = False

    async def _made(self) -> SshCore | FixedCore | OwnCore:
        if self._core is None and self._machine.remote is None:
            self._core = OwnCore(locate())
        if self._core is None:
            await asyncio.to_thread(import_module, "modeldeck.tui.remote.remote_core")
            from modeldeck.tui.remote.remote_core import core_of

            self._core = self._core or core_of(self._machine)
        return self._core

    @asynccontextmanager
    async def attach(self) -> AsyncIterator[Client]:
        """A client of the core; `ssh` asks nothing. Raises DeckError, Forbidden where it must."""
        core = await self._made()
        if not self._was_reached and not isinstance(core, OwnCore):
            await core.reach(batch=True)
            self._was_reached = True
        async with core.attach() as client:
            yield client

    async def ask(self) -> None:
        """Connect, and let `ssh` ask on the terminal. Raises DeckError."""
        core = await self._made()
        await core.ask()
        self._was_reached = True

    def outage(self) -> ConnectionLost | None:
        """Why the connection is down; None while it is up, and before there is one."""
        return self._core.outage() if self._core is not None else None

    @asynccontextmanager
    async def bulk(self) -> AsyncIterator[Carrier]:
        """A connection for weights while the block runs. Raises DeckError."""
        core = await self._made()
        async with core.bulk() as carrier:
            yield carrier

    async def revive(self) -> bool:
        """Have the core there restarted, where it was killed and the connection is up."""
        return self._core is not None and await self._core.revive()

    async def leave(self) -> str | None:
        """Detach from the core, where it was attached to. Return a line to print, or None."""
        return await self._core.leave() if self._core is not None else None
