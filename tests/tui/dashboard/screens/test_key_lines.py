"""The key line stands at the bottom at every size, whatever is asked, and nothing is cut off."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tui.dashboard.screens.steps import TINY, fetched, go

SIZES = ((120, 40), (80, 24), (60, 15), (60, 10), (40, 8), (30, 6))
ASKED = (
    ("catalog", "x", "Delete?"),
    ("catalog", "o", "Columns"),
    ("catalog", "L", "Load"),
    ("catalog", "colon", "Go to"),
    ("catalog", "ctrl+p", "Go to"),
    ("downloads", "b", "Total limit"),
    ("memory", "m", "Budget"),
    ("requests", "R", "Record"),
    ("chat", "t", "Sampling"),
    ("chat", "s", "System prompt"),
    ("chat", "m", "Model"),
)
"""View, key, and the name of what it asks in the key line."""


@pytest.mark.usefixtures("undebugged")
async def test_the_key_line_stands_at_every_size(screen: Any) -> None:
    async with screen("catalog", before=fetched(TINY)) as at:
        await go(at, TINY)
        for view, key, word in ASKED:
            at.app.current = view
            await at.pilot.pause()
            await at.press(*(["escape"] if view == "chat" else []), key)
            for size in SIZES:
                await at.pilot.resize_terminal(*size)

                def stands(word: str = word, height: int = size[1]) -> bool:
                    lines = at.text.split("\n")
                    return len(lines) == height and lines[-1].startswith(f"  {word}  ")

                await at.until(stands)
                assert not at.app.screen.max_scroll_y, f"{word} at {size}"
            await at.press("escape")
            await at.until(lambda: at.app.question is None)
