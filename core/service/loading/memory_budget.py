"""What models may take together, where a person set it: a setting like those of the downloads."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from pathlib import Path

from modeldeck.core.concurrency import whole
from modeldeck.core.config import config
from modeldeck.core.schema import Settings
from modeldeck.core.schema.state import SettingsChanged
from modeldeck.core.service.feed import Feed
from modeldeck.core.storage.foreign_files import in_thread

KEY = "memory_budget_bytes"
"""Its name, in `[runtime]` of the configuration as in `Settings`."""


def check(limit_bytes: int | None) -> None:
    """Raise InvalidRequest for what cannot be the budget."""
    config.changed(config.RuntimeSettings(), "runtime", {KEY: limit_bytes})


class MemoryBudget:
    """Changes `Settings.memory_budget_bytes`, which everybody who needs the budget reads."""

    def __init__(self, *, feed: Feed, config_file: Path) -> None:
        self._feed = feed
        self._config_file = config_file
        self._changing = asyncio.Lock()

    @property
    def limit_bytes(self) -> int | None:
        """The budget in force; None for as much as the machine has."""
        return self._feed.state.settings.memory_budget_bytes

    @whole
    async def change(self, limit_bytes: int | None) -> Settings:
        """Set it, or lift it with None; remembered, and in force at once.

        Models that take more already stay. Raises InvalidRequest for a bad value, StorageFailed
        when it cannot be remembered; then nothing has changed.
        """
        check(limit_bytes)
        write = partial(config.set_values, self._config_file, "runtime", {KEY: limit_bytes})
        async with self._changing:
            await in_thread(write, self._config_file, custom=True)
            settings = replace(self._feed.state.settings, memory_budget_bytes=limit_bytes)
            if settings != self._feed.state.settings:
                self._feed.commit(SettingsChanged, settings=settings)
            return settings
