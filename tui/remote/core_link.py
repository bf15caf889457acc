"""The link of the dashboard to one core: attach, fold the feed, say when it is lost.

One task folds what comes into `latest`; the app looks at it a few times a second. So a burst of a
thousand events costs one redraw, and nothing here touches a widget.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from modeldeck.core.concurrency import unexpected
from modeldeck.core.errors import CoreUnreachable, DeckError
from modeldeck.core.remote.outage import ConnectionLost
from modeldeck.tui.text.steady_figures import SteadyFigures

if TYPE_CHECKING:
    from modeldeck.core.client.client import Client
    from modeldeck.core.schema.state import State

Attach = Callable[[], AbstractAsyncContextManager["Client"]]
"""Finds a core, or starts one, for as long as the block runs. Raises DeckError."""

Revive = Callable[[], Awaitable[bool]]
"""Starts a core that was killed; False when that is not to be done. Raises DeckError."""

FAR_S = 0.15
"""Round trip above which a line counts as slow: two of them are what a person calls a wait."""

FAR_HZ = 1.0
"""Frames a second that a slow line carries."""

REVIVALS = 3

REVIVALS_S = 60.0
"""Limit on restarts: at most this many within this many seconds, then the core stays down."""


class LinkState(StrEnum):
    """How the dashboard stands with its core."""

    CONNECTING = "connecting"
    LIVE = "live"
    LOST = "lost"
    """It answered before; it is asked again and again."""
    FAILED = "failed"
    """It could not be reached or started at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkStatus:
    """What the line on top says of the link."""

    state: LinkState
    retry_at: float | None = None
    """When it is tried again, by `time.monotonic`; None while it is live."""
    error: DeckError | None = None
    round_trip_s: float | None = None
    """Of the last question that measured it; None before the first."""

    @property
    def is_blocked(self) -> bool:
        """Whether no core can be reached until the person removes what is in the way."""
        lost_for_good = self.error is not None and bool(self.error.details)
        return self.state is LinkState.FAILED or (self.state is LinkState.LOST and lost_for_good)


class CoreLink:
    """One core, as the dashboard sees it. `run` does the work; the rest is read by the app."""

    def __init__(
        self,
        attach: Attach,
        *,
        revive: Revive | None = None,
        outage: Callable[[], ConnectionLost | None] = lambda: None,
        max_hz: float = 4.0,
    ) -> None:
        """`outage` tells whether the line is down that leads to the core."""
        self._attach = attach
        self._revive = revive
        self._outage = outage
        self._reviving: asyncio.Task[None] | None = None
        self._revivals: deque[float] = deque(maxlen=REVIVALS)
        self._failure: DeckError | None = None
        """Why the core could not be started again."""
        self._max_hz = max_hz
        self._client: Client | None = None
        self.latest: State | None = None
        """The newest State, with figures of the machine that stand still while they hardly move
        (`steady_figures`); None before the first."""
        self.seen_at: float | None = None
        """When it came, in seconds since the epoch."""
        self.answered = asyncio.Event()
        """Set when the first State is there, or it is known that no core can be had."""
        self._status = LinkStatus(state=LinkState.CONNECTING)

    @property
    def status(self) -> LinkStatus:
        """How it stands. Where a line is down, that is why, and when it is made again."""
        outage = self._outage() if self._status.state is LinkState.LOST else None
        if outage is None:
            return self._status
        return LinkStatus(state=LinkState.LOST, retry_at=outage.retry_at, error=outage.error)

    @property
    def client(self) -> Client:
        """The client. Raises CoreUnreachable before there is a core."""
        if self._client is None:
            raise self.status.error or CoreUnreachable(
                "No core has answered yet.", "Wait a moment, or see `modeldeck status`."
            )
        return self._client

    @property
    def client_id(self) -> str:
        """What `RequestInfo.client` has for requests of this dashboard; empty without a client."""
        return self._client.client_id if self._client is not None else ""

    async def run(self) -> None:
        """Attach and follow the feed until cancelled, or until no core can be had."""
        if self.status.state is LinkState.FAILED:
            self._status = LinkStatus(state=LinkState.CONNECTING)
        own: Client | None = None
        try:
            async with self._attach() as own:
                self._client = own
                await self._follow(own)
        except DeckError as error:
            self._status = LinkStatus(state=LinkState.FAILED, error=error)
        except Exception as error:  # one machine must not end the dashboard of all
            self._status = LinkStatus(state=LinkState.FAILED, error=unexpected(error))
        finally:
            self.answered.set()
            if self._client is own:  # else it was begun anew while this one was still ending
                self._client = None
            if self._reviving is not None:
                await settle(self._reviving)

    async def _follow(self, client: Client) -> None:
        # as the client itself: not before the first picture
        from modeldeck.core.schema.state import (
            DiskChanged,
            MemoryChanged,
            State,
            apply,
        )

        trip_s = await self._round_trip(client)
        max_hz = FAR_HZ if trip_s is not None and trip_s >= FAR_S else self._max_hz
        figures = SteadyFigures()
        async with client.feed.watch(max_hz=max_hz, lost=self._lost) as items:
            async for item in items:
                self.seen_at = time.time()
                if isinstance(item, State):
                    figures.came(item)
                    self.latest = item
                elif self.latest is not None:
                    base = figures.base(self.latest)
                    if (newest := apply(base, item)) is not base:  # else it was known
                        self.latest = figures.shown(
                            self.latest,
                            newest,
                            memory_read=isinstance(item, MemoryChanged),
                            disk_read=isinstance(item, DiskChanged),
                        )
                if self.status.state is not LinkState.LIVE:
                    self._status = LinkStatus(
                        state=LinkState.LIVE, round_trip_s=await self._round_trip(client)
                    )
                    self.answered.set()
                elif (latency_s := client.latency_s) is not None:
                    # In steps of 10 ms: finer ones would have the screen change for nothing.
                    self._status = replace(self.status, round_trip_s=round(latency_s, 2))

    async def _round_trip(self, client: Client) -> float | None:
        started = time.perf_counter()
        try:
            await client.health()
        except DeckError:
            return None
        return time.perf_counter() - started

    def _lost(self, error: CoreUnreachable, wait_s: float) -> None:
        self._status = LinkStatus(
            state=LinkState.LOST,
            retry_at=time.monotonic() + wait_s,
            error=self._failure or error,
        )
        recent = [at for at in self._revivals if time.monotonic() - at < REVIVALS_S]
        idle = self._reviving is None or self._reviving.done()
        if self._revive is not None and idle and len(recent) < REVIVALS:
            self._reviving = asyncio.create_task(self._bring_back(self._revive))

    async def _bring_back(self, revive: Revive) -> None:
        """Have the core started again; the feed then finds it by itself."""
        try:
            if await revive():
                self._revivals.append(time.monotonic())
                self._failure = None
        except Exception as error:
            self._revivals.append(time.monotonic())
            self._failure = error if isinstance(error, DeckError) else unexpected(error)


async def settle(work: asyncio.Task[None]) -> None:
    """Cancel a task and wait until it is over."""
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)
