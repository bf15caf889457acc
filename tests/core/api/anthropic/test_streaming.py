"""Streams of the Messages API over a real listener, from a service that does as it is told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from types import SimpleNamespace
from typing import Any

import anthropic
import pytest
from anthropic import AsyncAnthropic

from modeldeck.core.api import inference
from modeldeck.core.config.config import Config
from modeldeck.core.errors import Busy, DeckError, EngineFailed, NotEnoughMemory
from modeldeck.core.schema import Chunk, GenerateRequest, Model, Requester
from modeldeck.core.service.inference.answers import ModelReply

Serve = Callable[..., Any]
Until = Callable[[Callable[[], bool]], Awaitable[None]]

BODY: dict[str, Any] = {
    "model": "b",
    "max_tokens": 9,
    "messages": [{"role": "user", "content": "a"}],
}


class Told:
    """A service with one model, which loads and answers as it is told."""

    def __init__(self, *pieces: Chunk | DeckError | None, load: Any = None) -> None:
        """None stands for waiting for ever; `load` is an event to wait for, or an error."""
        self.config = Config()
        self.state = SimpleNamespace(models={})
        self.tokens = SimpleNamespace(find=lambda secret: None)
        self.pieces = pieces
        self.load = load
        self.left: list[str] = []

    def model(self, ref: str) -> Model:
        return Model(id="1", unique="a/b", name="b", format="gguf", source="custom")

    @asynccontextmanager
    async def answer(
        self, model: Model, request: GenerateRequest, requester: Requester, **more: Any
    ) -> AsyncIterator[ModelReply]:
        if isinstance(self.load, asyncio.Event):
            await self.load.wait()
        elif self.load is not None:
            raise self.load
        async with aclosing(self._chunks()) as chunks:
            try:
                yield ModelReply(chunks=chunks, load_s=0.0)
            finally:
                self.left.append(model.id)

    async def _chunks(self) -> AsyncGenerator[Chunk, None]:
        for piece in self.pieces:
            if isinstance(piece, DeckError):
                raise piece
            if piece is None:
                await asyncio.Event().wait()
            else:
                yield piece


def asked(*, stream: bool) -> bytes:
    body = json.dumps({**BODY, "stream": stream}).encode()
    return (
        b"POST /v1/messages?beta=true HTTP/1.1\r\nHost: localhost\r\nanthropic-beta: never-seen\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    )


END = Chunk(finish_reason="stop", prompt_tokens=4, completion_tokens=1)


async def test_a_thought_arrives_apart(serve: Serve) -> None:
    pieces = (Chunk(thought="Hm. "), Chunk(thought="Yes."), Chunk(text="Oslo"), END)
    served = await serve(deck=Told(*pieces))
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
    served = await serve(deck=Told(Chunk(text="Hi"), END, load=loaded))
    client = await served.connect()
    await client.send(asked(stream=True))
    status, headers = await client.head()
    assert (status, headers["content-type"].partition(";")[0]) == (200, "text/event-stream")
    assert headers["request-id"]
    async with asyncio.timeout(20):
        early = await client.reader.readuntil(b"event: ping\ndata: {")
        await client.reader.readuntil(b"event: ping\ndata: {")
    assert b"message_start" in early
    loaded.set()
    async with asyncio.timeout(20):
        rest = await client.reader.readuntil(b'data: {"type":"message_stop"}\n\n')
    assert b"message_start" not in rest
    assert b'"text":"Hi"' in rest


async def test_what_fails_before_the_first_word_fails_with_its_status(serve: Serve) -> None:
    for stream in (True, False):
        served = await serve(deck=Told(Busy("Full.")))
        answer = await served.ask(asked(stream=stream))
        assert (answer.status, answer.headers["retry-after"]) == (529, "1")
        assert b"overloaded_error" in answer.body
        assert "x-should-retry" not in answer.headers
        served = await serve(deck=Told(load=NotEnoughMemory("It does not fit.")))
        answer = await served.ask(asked(stream=stream))
        assert (answer.status, answer.headers["x-should-retry"]) == (507, "false")
        served = await serve(deck=Told(EngineFailed("It died.")))
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
    served = await serve(deck=Told(Chunk(text="a"), end))
    async with AsyncAnthropic(base_url=served.addresses.url, api_key="x", max_retries=0) as client:
        with pytest.raises(anthropic.APIStatusError, match=words) as caught:
            async with client.messages.stream(**BODY) as stream:
                await stream.get_final_message()
    assert caught.value.type == "api_error"


async def test_a_client_that_leaves_ends_its_answer(serve: Serve, until: Until) -> None:
    for first, stream in ((Chunk(text="a"), True), (None, True), (Chunk(text="a"), False)):
        deck = Told(first, None)
        client = await (await serve(deck=deck)).connect()
        await client.send(asked(stream=stream))
        if stream and first:
            await client.head()
        await client.close()
        await until(lambda deck=deck: deck.left == ["1"])  # type: ignore[misc]  # bound now
