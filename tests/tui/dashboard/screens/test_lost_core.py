"""What the screens do when their core is killed, and when it comes back."""

from __future__ import annotations

from typing import Any

import pytest

from modeldeck.core.client.client import Client
from modeldeck.core.schema import LoadOptions
from modeldeck.tui.dashboard.screens.catalog.screen import CatalogView
from modeldeck.tui.dashboard.screens.chat.screen import ChatView
from modeldeck.tui.dashboard.screens.chat.turns import AnswerTurn
from modeldeck.tui.dashboard.screens.log.screen import LogView
from tests.support.process import CoreProcess

TINY = "deck/tiny-GGUF:Q8_0"
ROOM = 1 << 16
"""Tokens of context: an answer that never ends by itself has room for as long as a test looks."""


@pytest.fixture
def core(own_core: CoreProcess) -> CoreProcess:
    """Its own, since it is killed."""
    return own_core


async def loaded(client: Client) -> None:
    """Have the tiny model in memory."""
    await client.download(TINY)
    await client.feed.until(
        lambda s: any(m.unique == TINY and m.downloaded for m in s.models.values())
    )
    await client.loaded(TINY, LoadOptions(context_length=ROOM))


async def test_the_list_stays_and_a_verb_says_why_it_fails(screen: Any, core: CoreProcess) -> None:
    async with screen("catalog", before=loaded) as at:
        table = at.app.query_one(CatalogView).table
        tiny = next(m.id for m in at.state.models.values() if m.unique == TINY)
        await at.until(lambda: table.move_to(tiny))
        core.kill()
        await at.until(lambda: at.app.link_status.state != "live")
        await at.press("l")
        await at.until(lambda: any(m.severity == "error" for m in at.app.messages))
        await at.sees("tiny", "reconnecting")
        core.start()
        await at.until(lambda: at.app.link_status.state == "live")


async def test_an_answer_that_breaks_off_stays_to_be_read(screen: Any, core: CoreProcess) -> None:
    async with screen("chat", before=loaded) as at:
        chat = at.app.query_one(ChatView)
        at.type(*"loop", "enter")
        await at.until(lambda: any("Tick" in answer.text for answer in chat.query(AnswerTurn)))
        core.kill()
        await at.until(lambda: all(answer.ended for answer in chat.query(AnswerTurn)))
        assert "Tick" in chat.query_one(AnswerTurn).text
        await at.sees("reconnecting", "cut: the core stopped", "r asks again")
        assert [turn.ended for turn in chat.session.chat.path()] == ["", "cut"]


async def test_the_log_of_a_new_core_is_read_from_its_first_line(
    screen: Any, core: CoreProcess
) -> None:
    async with screen("log", before=loaded) as at:
        log = at.app.query_one(LogView)
        await at.until(lambda: log._seen > 0)
        before, started = len(log._lines), at.state.host.started_at
        core.restart()
        await at.until(lambda: at.state.host.started_at != started)
        await at.client.loaded(TINY, LoadOptions(context_length=512))
        await at.until(lambda: len(log._lines) > before)
