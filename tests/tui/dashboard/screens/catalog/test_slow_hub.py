"""The catalog while the Hub takes a connection, and never answers."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modeldeck.tui.dashboard.screens.catalog.screen import CatalogView
from tests.support.process import CoreProcess


@pytest.fixture
def core(home: Path) -> Iterator[CoreProcess]:
    """A core whose Hub is silent."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with CoreProcess({**os.environ, "HF_ENDPOINT": url}) as core:
            yield core


async def test_a_slow_hub_never_blocks_a_key(screen: Any) -> None:
    async with screen("catalog") as at:
        table = at.app.query_one(CatalogView).table
        await at.sees("Gemma 3 4B", "asking the Hub")
        await at.press("slash", *"gem")
        await at.sees('"gem"  searching…')
        await at.press("enter", "j", "j")
        assert table.cursor_item == table.items[2]
        await at.press("slash", *"ma 3 4b")
        await at.press("enter", "g")
        assert "Gemma 3 4B" in at.text
        assert "Qwen" not in at.text
        await at.press("escape", "s", "o")
        await at.until(lambda: at.app.question is not None)
        await at.press("enter", "escape", "2", "1")
        await at.sees("sort: model ▲")
