"""On what terms downloads run: how many at once and how fast, by will, clock and good neighbour.

The terms are settings like any other: a change is written to the configuration first, then holds,
then stands in `State.settings`. What holds at a moment is decided once a second, while somebody
could notice, and once a minute else.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from modeldeck.core.concurrency import Repeated, whole
from modeldeck.core.config import config
from modeldeck.core.config.schedule import limit_at, window_at
from modeldeck.core.schema import Settings
from modeldeck.core.schema.state import SettingsChanged
from modeldeck.core.service.congestion import ClientLatency, CongestionControl
from modeldeck.core.service.feed import Feed
from modeldeck.core.storage.foreign_files import in_thread

ACTIVE_S = 1.0
"""Between decisions while downloads may have to give way."""

CALM_S = 5.0
"""Between decisions else: a window of the schedule begins this late at most."""


@dataclass(slots=True)
class AttachedClient:
    """One attached front end, as far as the line to it is concerned."""

    clock: Callable[[], float]
    peer: ClientLatency = field(default_factory=ClientLatency)

    @property
    def waits(self) -> bool:
        """Whether it has still to answer."""
        return self.peer.asked_at is not None

    def asked(self) -> None:
        """A ping was sent to it."""
        self.peer = self.peer.asked(self.clock())

    def answered(self) -> None:
        """It answered."""
        self.peer = self.peer.answered(self.clock())


class BandwidthController:
    """Keeps the limit of all downloads, and their number at once, as they are to be."""

    def __init__(
        self,
        *,
        feed: Feed,
        settings: config.DownloadSettings,
        config_file: Path,
        set_limit: Callable[[int | None], None],
        set_jobs_at_once: Callable[[int], Awaitable[None]],
        now: Callable[[], datetime] = datetime.now,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`now` is the time of the day, `clock` a steady one."""
        self._feed = feed
        self._settings = settings
        self._config_file = config_file
        self._set_limit = set_limit
        self._set_jobs_at_once = set_jobs_at_once
        self._now = now
        self._clock = clock
        self._yielding = CongestionControl()
        self._listeners: list[AttachedClient] = []
        self._changing = asyncio.Lock()

    @whole
    async def change(self, changes: Mapping[str, Any]) -> Settings:
        """Change terms by the names of their settings; remembered, and in force at once.

        Raises InvalidRequest for a bad value, StorageFailed when it cannot be remembered; then
        nothing has changed.
        """
        async with self._changing:
            wanted = config.changed(self._settings, "downloads", changes)
            write = partial(config.set_values, self._config_file, "downloads", changes)
            await in_thread(write, self._config_file, custom=True)
            self._settings = wanted
            if not wanted.give_way:
                self._yielding = CongestionControl()
            await self._set_jobs_at_once(wanted.jobs_at_once)
            self.decide()
            return self._feed.state.settings

    def decide(self) -> None:
        """Bring the limit and `State.settings` to what holds now."""
        terms, clock = self._settings, self._now()
        minute = clock.hour * 60 + clock.minute
        limit = limit_at(terms.schedule, terms.rate_limit_bytes_per_s, minute)
        in_window = window_at(terms.schedule, minute) is not None
        lower, gives_way = self._yielding.limit, False
        if lower is not None and (limit is None or lower < limit):
            limit, gives_way = lower, True
        settings = replace(
            self._feed.state.settings,
            jobs_at_once=terms.jobs_at_once,
            rate_limit_bytes_per_s=terms.rate_limit_bytes_per_s,
            rate_in_force_bytes_per_s=limit,
            rate_reason="give way" if gives_way else "schedule" if in_window else "",
            schedule=dict(terms.schedule),
            give_way=terms.give_way,
        )
        self._set_limit(limit)
        if settings != self._feed.state.settings:
            self._feed.commit(SettingsChanged, settings=settings)

    async def watch(self) -> None:
        """Decide again and again. Ends only by cancellation: a decision that fails is repeated."""
        deciding = Repeated("deciding the limits of downloads")
        while True:
            await asyncio.sleep(ACTIVE_S if self._may_yield else CALM_S)
            with deciding.turn():
                self.tick()

    def tick(self) -> None:
        """Look at the front ends and at the clock, and decide anew."""
        if self._may_yield or self._yielding.limit is not None:
            clock = self._clock()
            waits = max((each.peer.waits_s(clock) for each in self._listeners), default=0.0)
            self._yielding = self._yielding.after(waits, self._rate)
        self.decide()

    @property
    def _rate(self) -> float:
        """What all downloads take together."""
        return sum(job.rate_bytes_per_s or 0 for job in self._feed.state.downloads.values())

    @property
    def _may_yield(self) -> bool:
        return self._settings.give_way and self._rate > 0

    @property
    def ping_s(self) -> float | None:
        """Seconds between pings to a front end; None while their answers are of no use."""
        if not self._settings.give_way:
            return None
        return ACTIVE_S if self._rate > 0 else CALM_S

    @contextmanager
    def listening(self) -> Iterator[AttachedClient]:
        """A front end that is attached for as long as the block runs."""
        listener = AttachedClient(self._clock)
        self._listeners.append(listener)
        try:
            yield listener
        finally:
            self._listeners.remove(listener)
