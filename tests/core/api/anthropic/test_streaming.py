"""Streams of the Messages API over a real listener, from a service that does as it is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import anthropic
import pytest
from anthropic import AsyncAnthropic

from modeldeck.core.api import inference
from modeldeck.core.errors import Busy, DeckError, EngineFailed, NotEnoughMemory
from modeldeck.core.schema import Chunk
from tests.core.api.conftest import PATIENCE_S
from tests.core.api.told_service import ToldService

Serve = Callable[..., Any]
Until = Callable[[Callable[[], bool]], Awaitable[None]]

BODY: dict[str, Any] = {
    "model": "b",
    "max_tokens": 9,
    "messages": [{"role": "user", "content": "a"}],
}


def asked(*, stream: bool) -> bytes:
    body = json.dumps({**BODY, "stream": stream}).encode()
    return (
        b"POST /v1/messages?beta=true HTTP/1.1\r\nHost: localhost\r\nanthropic-beta: never-seen\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    )


END = Chunk(finish_reason="stop", prompt_tokens=4, completion_tokens=1)


async def test_a_thought_arrives_apart(serve: Serve) -> None:
    pieces = (Chunk(thought="Hm. "), Chunk(thought="Yes."), Chunk(text="Oslo"), END)
    served = await serve(deck=ToldService(*pieces))
    async with AsyncAnthropic(base_url=served.addresses.url, api_key="x", max_retries=0) as client:
        whole = await client.messages.create(**BODY)
        async with client.messages.stream(**BODY) as stream:
            final = await stream.get_final_message()
    for message in (whole, final):
        thinking, text = message.content
        assert (thinking.type, text.type) == ("thinking", "text")
        assert (thinking.thinking, text.text) == ("Hm. Yes.", "Oslo")
    assert whole.content[0].signature == final.content[0].signature


async def test_the_opening_is_sent_while_the_model_loads_and_pings_follow(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "HEAD_S", 0.05)
    monkeypatch.setattr(inference, "PING_S", 0.05)
    loaded = asyncio.Event()
    served = await serve(deck=ToldService(Chunk(text="Hi"), END, load=loaded))
    client = await served.connect()
    await client.send(asked(stream=True))
    status, headers = await client.head()
    assert (status, headers["content-type"].partition(";")[0]) == (200, "text/event-stream")
    assert headers["request-id"]
    async with asyncio.timeout(PATIENCE_S):
        early = await client.reader.readuntil(b"event: ping\ndata: {")
        await client.reader.readuntil(b"event: ping\ndata: {")
    assert b"message_start" in early
    loaded.set()
    async with asyncio.timeout(PATIENCE_S):
        rest = await client.reader.readuntil(b'data: {"type":"message_stop"}\n\n')
    assert b"message_start" not in rest
    assert b'"text":"Hi"' in rest


async def test_what_fails_before_the_first_word_fails_with_its_status(serve: Serve) -> None:
    for stream in (True, False):
        served = await serve(deck=ToldService(Busy("Full.")))
        answer = await served.ask(asked(stream=stream))
        assert (answer.status, answer.headers["retry-after"]) == (529, "1")
        assert b"overloaded_error" in answer.body
        assert "x-should-retry" not in answer.headers
        served = await serve(deck=ToldService(load=NotEnoughMemory("It does not fit.")))
        answer = await served.ask(asked(stream=stream))
        assert (answer.status, answer.headers["x-should-retry"]) == (507, "false")
        served = await serve(deck=ToldService(EngineFailed("It died.")))
        answer = await served.ask(asked(stream=stream))
        assert answer.status == 500
        assert "x-should-retry" not in answer.headers


@pytest.mark.parametrize(
    ("end", "words"),
    [
        (EngineFailed("It died."), "It died."),
        (Chunk(finish_reason="cancelled"), "unloaded"),
        (Chunk(text="b"), "mid-answer"),
    ],
)
async def test_what_fails_later_is_an_event(
    serve: Serve, end: Chunk | DeckError, words: str
) -> None:
    served = await serve(deck=ToldService(Chunk(text="a"), end))
    async with AsyncAnthropic(base_url=served.addresses.url, api_key="x", max_retries=0) as client:
        with pytest.raises(anthropic.APIStatusError, match=words) as caught:
            async with client.messages.stream(**BODY) as stream:
                await stream.get_final_message()
    assert caught.value.type == "api_error"


async def test_a_client_that_leaves_ends_its_answer(serve: Serve, until: Until) -> None:
    for first, stream in ((Chunk(text="a"), True), (None, True), (Chunk(text="a"), False)):
        deck = ToldService(first, None)
        client = await (await serve(deck=deck)).connect()
        await client.send(asked(stream=stream))
        if stream and first:
            await client.head()
        await client.close()
        await until(lambda deck=deck: deck.left == ["1"])  # type: ignore[misc]  # bound now
