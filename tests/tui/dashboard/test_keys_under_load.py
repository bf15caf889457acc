"""No key is lost while downloads run and the machine is busy."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from modeldeck.core.client.client import Client
from modeldeck.tui.dashboard.widgets.filter_input import FilterInput
from modeldeck.tui.dashboard.widgets.table import Table

NAMES = ("deck/padded-GGUF:F16", "deck/tiny-GGUF:F16", "deck/tiny-split-GGUF:F16")
CRAWL = 10_000
"""Bytes a second of all downloads together: one that ends would move its row."""
TEXT = "the quick brown fox jumps over the lazy dog 0123456789"


@pytest.fixture
def load() -> Iterator[None]:
    """A thread that takes the interpreter from the dashboard all the time."""
    over = threading.Event()

    def burn() -> None:
        while not over.is_set():
            sum(range(10_000))

    thread = threading.Thread(target=burn)
    thread.start()
    yield
    over.set()
    thread.join()


async def begun(client: Client) -> None:
    """Begin three downloads."""
    await client.change_settings(rate_limit_bytes_per_s=CRAWL)
    await asyncio.gather(*(client.download(name) for name in NAMES))
    await client.feed.until(lambda s: sum(j.received_bytes > 0 for j in s.downloads.values()) >= 2)


@pytest.mark.parametrize("view", ["downloads", "catalog"])
async def test_no_key_is_lost_while_three_downloads_run(screen: Any, load: None, view: str) -> None:
    async with screen(view, before=begun) as at:
        table = at.app.view.query_one(Table)
        await at.until(lambda: len(table.items) >= 3)
        at.type("slash", *(" " if char == " " else char for char in TEXT), "enter")
        field = at.app.view.query_one(FilterInput)
        await at.until(lambda: field.value == TEXT and table.has_focus)
        at.type("escape", "3", "2", "4", "escape", "1", "g", *"jjjkj")
        await at.until(lambda: at.app.current == "catalog" and not at.app._keys)
        rows = at.app.view.table
        await at.until(lambda: rows.cursor_item is not None and rows.cursor_item == rows.items[3])
