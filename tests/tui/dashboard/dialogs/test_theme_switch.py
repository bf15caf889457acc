"""Another theme holds at once on every screen, whether or not the core has news."""

from __future__ import annotations

from typing import Any

import pytest

from modeldeck.core.client.client import Client
from modeldeck.tui.dashboard.screens.log.screen import LogView
from modeldeck.tui.dashboard.theme import ink

TINY = "deck/tiny-GGUF:Q8_0"


async def fetched(client: Client) -> None:
    """One model is here."""
    await client.download(TINY)
    await client.feed.until(lambda s: any(d.state == "completed" for d in s.downloads.values()))


VIEWS = ("catalog", "downloads", "memory", "requests", "disk", "chat", "log")


@pytest.mark.parametrize("view", VIEWS)
async def test_no_colour_of_the_theme_before_is_left(
    screen: Any, monkeypatch: pytest.MonkeyPatch, view: str
) -> None:
    async with screen(view, before=fetched) as at:
        if view in ("catalog", "downloads"):
            await at.sees("✓ tiny", "downloaded")
        if view == "chat":
            await at.press("escape", "c")
            await at.sees("Chats 0", "R rename")
        monkeypatch.setattr(type(at.app), "_look", lambda _: None)  # no news any more
        monkeypatch.setattr(LogView, "_ask", lambda _: None)

        def drawn() -> set[Any]:
            strips = at.app.screen._compositor.render_strips()
            return {s.style.color for strip in strips for s in strip if s.style and s.text.strip()}

        def inks() -> set[Any]:
            styles = ink(at.app.theme_variables)
            return {getattr(styles, name).color for name in styles.__dataclass_fields__}

        old = inks()
        await at.until(lambda: bool(old & drawn()))
        at.app.theme = "paper"
        await at.until(lambda: not old & inks())
        await at.until(lambda: bool(inks() & drawn()) and not old & drawn())
