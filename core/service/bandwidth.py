"""Number of simultaneous downloads and their rate limit: by settings, schedule and congestion.

A change of a setting is written to the configuration first, then applied, then shown in
`State.settings`. The limit in force is recomputed every second while downloads may have to yield to
other traffic, and every five seconds otherwise.
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
from modeldeck.core.config import config, config_file
from modeldeck.core.config.schedule import limit_at, window_at
from modeldeck.core.schema import Settings
from modeldeck.core.schema.state import SettingsChanged
from modeldeck.core.service.congestion import ClientLatency, CongestionControl
from modeldeck.core.service.feed import Feed
from modeldeck.core.storage.foreign_files import in_file_thread

ACTIVE_S = 1.0
"""Seconds between updates while downloads may have to yield to other traffic."""

CALM_S = 5.0
"""Seconds between updates otherwise: a window of the schedule begins at most this late."""


@dataclass(slots=True)
class AttachedClient:
    """The measured latency of one attached front end."""

    clock: Callable[[], float]
    latency: ClientLatency = field(default_factory=ClientLatency)

    @property
    def waits(self) -> bool:
        """Whether a ping to it is unanswered."""
        return self.latency.ping_sent_at is not None

    def asked(self) -> None:
        """Record that a ping was sent."""
        self.latency = self.latency.ping_sent(self.clock())

    def answered(self) -> None:
        """Record that the ping was answered."""
        self.latency = self.latency.ping_answered(self.clock())


class BandwidthController:
    """Sets the rate limit of all downloads, and the number that run at once."""

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
        """`now` is the time of day, `clock` a monotonic clock in seconds."""
        self._feed = feed
        self._settings = settings
        self._config_file = config_file
        self._set_limit = set_limit
        self._set_jobs_at_once = set_jobs_at_once
        self._now = now
        self._clock = clock
        self._congestion = CongestionControl()
        self._clients: list[AttachedClient] = []
        self._change_lock = asyncio.Lock()

    @whole
    async def change(self, changes: Mapping[str, Any]) -> Settings:
        """Change settings by name; saved, and in force at once.

        Raises InvalidRequest for a bad value, StorageFailed when it cannot be saved; then nothing
        has changed.
        """
        async with self._change_lock:
            wanted = config_file.changed(self._settings, "downloads", changes)
            write = partial(config_file.set_values, self._config_file, "downloads", changes)
            await in_file_thread(write, self._config_file, custom=True)
            self._settings = wanted
            if not wanted.give_way:
                self._congestion = CongestionControl()
            await self._set_jobs_at_once(wanted.jobs_at_once)
            self.update()
            return self._feed.state.settings

    def update(self) -> None:
        """Compute the limit in force now; apply it and show it in `State.settings`."""
        configured, clock = self._settings, self._now()
        minute = clock.hour * 60 + clock.minute
        limit = limit_at(configured.schedule, configured.rate_limit_bytes_per_s, minute)
        in_window = window_at(configured.schedule, minute) is not None
        lower, gives_way = self._congestion.limit, False
        if lower is not None and (limit is None or lower < limit):
            limit, gives_way = lower, True
        settings = replace(
            self._feed.state.settings,
            jobs_at_once=configured.jobs_at_once,
            rate_limit_bytes_per_s=configured.rate_limit_bytes_per_s,
            rate_in_force_bytes_per_s=limit,
            rate_reason="give way" if gives_way else "schedule" if in_window else "",
            schedule=dict(configured.schedule),
            give_way=configured.give_way,
        )
        self._set_limit(limit)
        if settings != self._feed.state.settings:
            self._feed.commit(SettingsChanged, settings=settings)

    async def watch(self) -> None:
        """Update the limit periodically. Ends only by cancellation: errors are logged."""
        updating = Repeated("updating the limits of downloads")
        while True:
            await asyncio.sleep(ACTIVE_S if self._yields_now else CALM_S)
            with updating.turn():
                self.tick()

    def tick(self) -> None:
        """Evaluate latency and schedule, and update the limit."""
        if self._yields_now or self._congestion.limit is not None:
            clock = self._clock()
            delay_s = max((c.latency.current_delay_s(clock) for c in self._clients), default=0.0)
            self._congestion = self._congestion.after(delay_s, self._rate)
        self.update()

    @property
    def _rate(self) -> float:
        """Bytes per second of all downloads together."""
        return sum(job.rate_bytes_per_s or 0 for job in self._feed.state.downloads.values())

    @property
    def _yields_now(self) -> bool:
        return self._settings.give_way and self._rate > 0

    @property
    def ping_s(self) -> float | None:
        """Seconds between pings to a front end; None while their answers are not needed."""
        if not self._settings.give_way:
            return None
        return ACTIVE_S if self._rate > 0 else CALM_S

    @contextmanager
    def listening(self) -> Iterator[AttachedClient]:
        """Measure the latency of a front end while the block runs."""
        client = AttachedClient(self._clock)
        self._clients.append(client)
        try:
            yield client
        finally:
            self._clients.remove(client)
