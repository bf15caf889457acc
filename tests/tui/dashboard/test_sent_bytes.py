"""How much the dashboard sends to its terminal: nothing at rest, and little for a key."""

from __future__ import annotations

from datetime import datetime, tzinfo
from typing import Any

import pytest

from modeldeck.tui.dashboard.app import SLOW
from modeldeck.tui.dashboard.screens.catalog.detail_words import ASKING
from modeldeck.tui.dashboard.screens.log.screen import LogView
from modeldeck.tui.dashboard.screens.memory import history
from modeldeck.tui.dashboard.widgets.table import Table
from modeldeck.tui.remote.core_link import CoreLink
from tests.tui.dashboard.conftest import size_of
from tests.tui.dashboard.screens.steps import TINY, catalog, fetched

MOST_FOR_A_KEY = 1500
"""Bytes that one key of the cursor may cost at 120 by 40; with a pane beside the list, on average.
"""


def freeze(link: CoreLink) -> None:
    """Keep the State of a link as it is now."""
    state = link.latest

    class FrozenLink(CoreLink):
        latest = property(lambda link: state, lambda link, newer: None)

    link.__class__ = FrozenLink


@pytest.mark.parametrize("view", ["catalog", "downloads", "memory", "requests", "disk"])
async def test_nothing_is_sent_at_rest(
    screen: Any, sent: list[str], view: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.now()

    class StoppedClock(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Any:
            return now.astimezone(tz) if tz else now

    monkeypatch.setattr(history, "datetime", StoppedClock)  # it moves once a minute on Memory
    async with screen(view, before=fetched(TINY)) as at:
        await at.until(lambda: len(sent) > 0)
        at.app.parts.messages.hide()
        # Free memory changes by what else the machine does: one State is looked at all the time.
        freeze(at.app.link)
        await quiet(at, sent)
        before, looks = size_of(sent), at.app._looks
        await at.until(lambda: at.app._looks >= looks + 2 * SLOW)
        assert size_of(sent) == before, sent[-1]


async def quiet(at: Any, sent: list[str]) -> None:
    """Wait until a few looks in a row sent nothing, and no answer is to come."""
    seen, since = size_of(sent), at.app._looks

    def calm() -> bool:
        nonlocal seen, since
        if size_of(sent) != seen or at.is_working:
            seen, since = size_of(sent), at.app._looks
        return bool(at.app._looks >= since + SLOW)

    await at.until(calm)


async def test_a_key_of_the_cursor_costs_little(
    screen: Any, sent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with screen("log", size=(120, 40)) as at:
        for number in range(30):
            at.app.say(f"line {number}")
        # In the table, not only in the message: lines that come meanwhile would count with a key.
        await at.until(lambda: len(at.app.view.query_one(Table).items) >= 30)
        freeze(at.app.link)
        monkeypatch.setattr(LogView, "_fetch", lambda view: None)
        await at.press("k")
        await quiet(at, sent)
        for key in "kkkjj":
            before = size_of(sent)
            await at.press(key)
            await at.until(lambda before=before: size_of(sent) > before)
            await at.pilot.pause()
            assert size_of(sent) - before <= MOST_FOR_A_KEY, key


async def test_a_key_of_the_cursor_costs_little_with_the_detail_beside_it(
    screen: Any, sent: list[str]
) -> None:
    """The answer of the Hub, here that there is no such repository, counts with the key."""
    async with screen("catalog", size=(120, 40)) as at:
        table = catalog(at).table
        await at.until(lambda: len(table.items) > len(at.state.models) // 2)
        freeze(at.app.link)
        await quiet(at, sent)
        before, keys = size_of(sent), 8
        for place in range(1, keys + 1):
            await at.press("j")
            await at.until(lambda place=place: table.cursor_item == table.items[place])
            await at.until(lambda: ASKING not in at.text)
            await quiet(at, sent)
        assert keys * 300 < size_of(sent) - before <= keys * MOST_FOR_A_KEY
