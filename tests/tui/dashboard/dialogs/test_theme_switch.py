"""Another theme holds at once on every screen, whether or not the core has news."""

from __future__ import annotations

from typing import Any

import pytest

from modeldeck.core.client.client import Client
from modeldeck.tui.dashboard.theme import ink

TINY = "deck/tiny-GGUF:Q8_0"


async def fetched(client: Client) -> None:
    """One model is here."""
    await client.download(TINY)
    await client.feed.until(lambda s: any(d.state == "completed" for d in s.downloads.values()))


@pytest.mark.parametrize("view", ["catalog", "downloads"])
async def test_no_colour_of_the_theme_before_is_left(
    screen: Any, monkeypatch: pytest.MonkeyPatch, view: str
) -> None:
    async with screen(view, before=fetched) as at:
        await at.sees("✓ tiny", "downloaded")
        monkeypatch.setattr(type(at.app), "_look", lambda _: None)  # no news any more

        def colours() -> set[Any]:
            strips = at.app.screen._compositor.render_strips()
            return {s.style.color for strip in strips for s in strip if s.style and s.text.strip()}

        def success() -> Any:
            return ink(at.app.theme_variables).success.color

        old = success()
        assert old in colours()
        at.app.theme = "paper"
        await at.until(lambda: success() != old)
        await at.until(lambda: success() in colours() and old not in colours())
