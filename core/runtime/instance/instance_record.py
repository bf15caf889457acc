"""The record of an instance as it changes: immutable, so each change replaces and reports it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from modeldeck.core.runtime.instance import slot_use
from modeldeck.core.runtime.instance.lifecycle import LifecycleEvent, after
from modeldeck.core.runtime.instance.receipt import measured_fields
from modeldeck.core.runtime.instance.relay import figures, tokens
from modeldeck.core.runtime.instance.request import RequestStream
from modeldeck.core.runtime.process.messages import AnyReport, PromptProgress
from modeldeck.core.schema import Instance, InstanceState, ProcessMemory


class InstanceRecord:
    """The present record of one instance, and since when it has been idle."""

    def __init__(self, record: Instance, on_change: Callable[[Instance], None]) -> None:
        """Call `on_change` with each new record."""
        self.now = record
        self._on_change = on_change
        self._idle_since: float | None = None

    def update(self, **changes: Any) -> None:
        """Change fields; nothing is reported where they stay the same."""
        now = self.now
        if changed := {
            name: value for name, value in changes.items() if getattr(now, name) != value
        }:
            self.now = replace(now, **changed)
            self._on_change(self.now)

    def transition(self, event: LifecycleEvent, **changes: Any) -> None:
        """Change the state by an event of its life, and fields with it."""
        self.update(state=after(self.now.state, event), **changes)

    def loaded(self, **changes: Any) -> None:
        """Record that it is loaded, and idle from now."""
        self._idle_since = time.monotonic()
        self.transition(LifecycleEvent.LOADED, stage="", progress=1.0, idle_s=0.0, **changes)

    def work_begins(self) -> None:
        """Record that a request runs."""
        self._idle_since = None
        if self.now.state is InstanceState.READY:
            self.transition(LifecycleEvent.WORK, idle_s=None)

    def work_ends(self) -> None:
        """Record that no request runs, and that it is idle from now."""
        if self.now.state is InstanceState.BUSY:
            self._idle_since = time.monotonic()
            self.transition(LifecycleEvent.REST, idle_s=0.0)

    def measured(self, memory: ProcessMemory | None) -> None:
        """Record a measurement of its process, and its idle time."""
        now = time.monotonic()
        idle = now - self._idle_since if self._idle_since is not None else None
        changes: dict[str, object] = {"idle_s": idle}
        if memory is not None:
            changes |= measured_fields(self.now, memory)
        self.update(**changes)

    def limit_cache(self, keep_bytes: int, *, stays: bool) -> None:
        """Record the new limit of its prefix cache; where it `stays`, in the forecast as well."""
        forecast = self.now.forecast
        if stays and forecast is not None:
            limit = min(keep_bytes, forecast.prefix_cache_bytes)
            forecast = replace(forecast, prefix_cache_bytes=limit)
        held = min(self.now.prefix_cache_bytes or 0, keep_bytes)
        self.update(forecast=forecast, prefix_cache_bytes=held)

    def reported(self, report: AnyReport, request: RequestStream[Any] | None) -> None:
        """Record the figures of a report, and which slot its request has, or had."""
        changes: dict[str, Any] = {}
        if request is not None:
            who = request.requester.who
            changes["slots"] = slot_use.after(self.now.slots, report, request.slot, who)
            if isinstance(report, PromptProgress):
                request.slot = report.slot
        if count := tokens(report):
            most = max(self.now.context_used or 0, count)
            changes |= {"context_used": most, **figures(report)}
        self.update(**changes)
