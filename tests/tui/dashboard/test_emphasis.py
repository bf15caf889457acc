"""What is bold: names, titles, keys and the row of the cursor, and not the words beside them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.tui.dashboard.screens.steps import TINY, fetched, go


def bold(at: Any, part: str) -> str:
    """The bold words of the first line that has `part`."""
    strips = at.app.screen._compositor.render_strips()
    strip = next(strip for strip in strips if part in strip.text)
    return "|".join(s.text for s in strip if s.style and s.style.bold and s.text.strip())


@pytest.mark.usefixtures("undebugged")
async def test_words_beside_titles_are_not_bold(screen: Any) -> None:
    async with screen("catalog", before=fetched(TINY)) as at:
        await go(at, TINY)
        await at.sees("sort: yours first", "· trained 4k", "calls tools")
        assert bold(at, "sort: yours first").endswith("[all]")
        assert "trained" not in bold(at, "· trained 4k")
        assert "calls" not in bold(at, "calls tools")


@pytest.mark.usefixtures("undebugged")
async def test_of_a_list_of_entries_the_one_under_the_cursor_and_keys_are_bold(screen: Any) -> None:
    async with screen("catalog") as at:
        await at.press(*":ch")
        await at.sees("▸ view  chat", "verb  check updates", "every key of Chat")
        assert "Ask the Hub" not in bold(at, "verb  check updates")
        assert not bold(at, "every key of Chat")
        await at.press("escape")
