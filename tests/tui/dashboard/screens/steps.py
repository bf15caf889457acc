"""What tests of the screens do again and again with models of the demo hub."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from modeldeck.core.client.client import Client
from modeldeck.core.schema import Model
from modeldeck.tui.dashboard.screens.catalog.screen import CatalogView

TINY = "deck/tiny-GGUF:Q8_0"
F16 = "deck/tiny-GGUF:F16"
PADDED = "deck/padded-GGUF:F16"
SPLIT = "deck/tiny-split-GGUF:F16"

SLOW = 50_000
"""Bytes a second on each connection: the padded model takes long enough to be seen."""


def fetched(*names: str) -> Callable[[Client], Awaitable[object]]:
    """Downloads models before the dashboard opens."""

    async def fetch(client: Client) -> None:
        for name in names:
            await client.download(name)
        await client.feed.until(
            lambda s: {m.unique for m in s.models.values() if m.downloaded} >= {*names}
        )

    return fetch


def catalog(at: Any) -> CatalogView:
    found: CatalogView = at.app.query_one(CatalogView)
    return found


def model(at: Any, name: str = TINY) -> Model | None:
    return next((m for m in at.state.models.values() if m.unique == name), None)


def downloaded(at: Any, name: str = TINY) -> bool:
    found = model(at, name)
    return found is not None and found.downloaded


def loaded(at: Any) -> list[str]:
    return [i.unique for i in at.state.instances.values() if i.state in ("ready", "busy")]


async def go(at: Any, name: str) -> None:
    """Put the cursor on a listed model."""
    await at.until(lambda: model(at, name) is not None)
    found = model(at, name)
    assert found is not None
    await at.until(lambda: catalog(at).table.move_to(found.id))
    await at.pilot.pause()


async def search(at: Any, words: str, repo: str) -> None:
    """Write a filter, and go to what the Hub found for it."""
    await at.press("slash")
    await at.write(words)
    await at.until(lambda: catalog(at).table.move_to(f"hub:{repo}"))
    await at.press("enter")


def row(at: Any, word: str) -> str:
    """The first line of the table with the word in it, without the pane beside it."""
    body = [line.partition("│")[0] for line in at.text.split("\n")[2:]]
    return next((line for line in body if word in line), "")
