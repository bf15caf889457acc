"""Streams of answers: their head, signs of life, errors and ends."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator

import pytest

from modeldeck.core.api import inference
from modeldeck.core.api.inference import OLLAMA_STREAM, OPENAI_STREAM, StreamForm, streamed
from modeldeck.core.errors import Busy, EngineFailed

PING = b": waiting\n\n"


async def _pieces(*items: bytes | Exception | asyncio.Event) -> AsyncGenerator[bytes, None]:
    for item in items:
        if isinstance(item, asyncio.Event):
            await item.wait()
        elif isinstance(item, Exception):
            raise item
        else:
            yield item


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "HEAD_S", 0.05)
    monkeypatch.setattr(inference, "PING_S", 0.05)


async def test_an_error_before_the_head_is_raised() -> None:
    with pytest.raises(Busy):
        await streamed(_pieces(Busy("full")), OPENAI_STREAM)


@pytest.mark.parametrize("form", [OPENAI_STREAM, OLLAMA_STREAM])
async def test_a_later_error_is_the_last_piece(form: StreamForm) -> None:
    response = await streamed(_pieces(b"a", EngineFailed("broke")), form)
    rest = [piece async for piece in response.chunks]
    assert response.first == b"a"
    assert len(rest) == 1
    assert b"broke" in rest[0]


async def test_the_head_is_sent_before_the_first_piece_and_signs_of_life_follow() -> None:
    go = asyncio.Event()
    response = await streamed(_pieces(go, b"a"), OPENAI_STREAM)
    assert response.first == PING
    assert await anext(response.chunks) == PING
    go.set()
    assert [p async for p in response.chunks if p != PING] == [b"a"]


async def test_a_form_without_pings_sends_its_head_and_no_empty_piece() -> None:
    go = asyncio.Event()
    response = await streamed(_pieces(go, b"a"), OLLAMA_STREAM)
    assert response.first == b""
    asyncio.get_running_loop().call_later(0.2, go.set)
    assert [piece async for piece in response.chunks] == [b"a"]


async def test_an_error_after_the_head_is_a_piece_although_no_other_came() -> None:
    go = asyncio.Event()
    response = await streamed(_pieces(go, EngineFailed("broke")), OPENAI_STREAM)
    go.set()
    rest = [piece async for piece in response.chunks if piece != PING]
    assert len(rest) == 1
    assert b"broke" in rest[0]


async def test_closing_the_stream_closes_the_pieces() -> None:
    closed = asyncio.Event()

    async def endless() -> AsyncGenerator[bytes, None]:
        try:
            while True:
                yield b"a"
                await asyncio.sleep(0)
        finally:
            closed.set()

    response = await streamed(endless(), OPENAI_STREAM)
    await anext(response.chunks)
    await response.chunks.aclose()
    assert closed.is_set()


async def test_a_bug_in_the_making_is_raised_and_not_told_as_an_end() -> None:
    response = await streamed(_pieces(b"a", ZeroDivisionError()), OPENAI_STREAM)
    with pytest.raises(ZeroDivisionError):
        await anext(response.chunks)


async def test_a_sign_of_life_does_not_overtake_a_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "HEAD_S", 0.3)

    async def late() -> AsyncGenerator[bytes, None]:
        # The loop stands still until the wait has ended as well.
        asyncio.get_running_loop().call_soon(time.sleep, 0.4)
        await asyncio.sleep(0.01)
        yield b"a"

    response = await streamed(late(), OPENAI_STREAM)
    assert response.first == b"a"
    assert [data async for data in response.chunks] == []


async def test_pieces_that_were_made_meanwhile_come_in_one_up_to_a_bound() -> None:
    made = 0

    async def quick() -> AsyncGenerator[bytes, None]:
        nonlocal made
        for _ in range(2 * inference.PIECES_AHEAD):
            made += 1
            yield b"a"

    response = await streamed(quick(), OPENAI_STREAM)
    assert response.first == b"a" * inference.PIECES_AHEAD
    assert made == inference.PIECES_AHEAD, "no more are made before those are taken"
    assert b"".join([piece async for piece in response.chunks]) == response.first
    assert made == 2 * inference.PIECES_AHEAD
