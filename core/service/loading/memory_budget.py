"""The memory budget: the most memory that all models may take together."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial
from pathlib import Path

from modeldeck.core.concurrency import whole
from modeldeck.core.config import config, config_file
from modeldeck.core.schema import Settings
from modeldeck.core.schema.state import SettingsChanged
from modeldeck.core.service.feed import Feed
from modeldeck.core.storage.foreign_files import in_file_thread

BUDGET_KEY = "memory_budget_bytes"
"""Name of the memory budget, in `[runtime]` of the configuration as in `Settings`."""


def check_budget(limit_bytes: int | None) -> None:
    """Raise InvalidRequest for a value that cannot be the memory budget."""
    config_file.changed(config.RuntimeSettings(), "runtime", {BUDGET_KEY: limit_bytes})


class MemoryBudget:
    """Changes `Settings.memory_budget_bytes`: the most memory that all models may take together."""

    def __init__(self, *, feed: Feed, config_file: Path) -> None:
        self._feed = feed
        self._config_file = config_file
        self._change_lock = asyncio.Lock()

    @property
    def limit_bytes(self) -> int | None:
        """The budget in force; None for all memory of the machine."""
        return self._feed.state.settings.memory_budget_bytes

    @whole
    async def change(self, limit_bytes: int | None) -> Settings:
        """Set the budget, or remove it with None; saved, and in force at once.

        Loaded models that take more stay. Raises InvalidRequest for a bad value, StorageFailed when
        it cannot be saved; then nothing has changed.
        """
        check_budget(limit_bytes)
        values = {BUDGET_KEY: limit_bytes}
        write = partial(config_file.set_values, self._config_file, "runtime", values)
        async with self._change_lock:
            await in_file_thread(write, self._config_file, custom=True)
            settings = replace(self._feed.state.settings, memory_budget_bytes=limit_bytes)
            if settings != self._feed.state.settings:
                self._feed.commit(SettingsChanged, settings=settings)
            return settings
