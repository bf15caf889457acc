"""Measuring what the folders of models hold, while files come and go."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from modeldeck.core.config.config import Config, RuntimeSettings
from modeldeck.core.config.paths import locate
from modeldeck.core.hub_cache import scan
from modeldeck.core.service.deck import Deck

PATIENCE_S = 60.0


async def test_a_measurement_that_is_late_does_not_undo_a_newer_one(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that began before a deletion, on a busy machine."""
    seen, deleted = threading.Event(), threading.Event()

    def usage(_: Path) -> tuple[int, int]:
        if not seen.is_set():
            seen.set()
            assert deleted.wait(PATIENCE_S)
            return 1000, 0
        return 0, 0

    async with Deck(locate(), Config(runtime=RuntimeSettings(calibrate=False))) as deck:
        sampler = deck._parts.sampler
        monkeypatch.setattr(scan, "usage", usage)
        early = asyncio.create_task(sampler.count_disk())
        assert await asyncio.to_thread(seen.wait, PATIENCE_S)
        await sampler.count_disk()
        deleted.set()
        await early
        assert deck.state.disk is not None
        assert deck.state.disk.cache_bytes == 0
