"""The OpenAI API, driven by OpenAI's own client against a real core and a real engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any

import httpx
import openai
import pytest
from openai import AsyncOpenAI

from core.api.openai_forms import ChatBody, ChatMessage, Part, Usage, generate_request
from core.demo.models import TOPICS, expected
from core.demo.process import CoreProcess
from core.errors import Busy, DeckError, EngineFailed, InvalidRequest
from core.schema import Chunk, GenerateRequest, Instance, InstanceState, Model

Serve = Callable[..., Any]
Until = Callable[[Callable[[], bool]], Awaitable[None]]

TINY = "deck/tiny-GGUF:Q8_0"
PATIENCE_S = 60


@pytest.fixture
async def client(core: CoreProcess) -> AsyncIterator[AsyncOpenAI]:
    """OpenAI's client, on a core that has the tiny model's files."""
    async with httpx.AsyncClient(base_url=core.url, timeout=PATIENCE_S) as http:
        accepted = (await http.post("/deck/models/deck%2Ftiny-GGUF%3AQ8_0/download")).json()
        async with asyncio.timeout(PATIENCE_S):
            while True:
                model = (await http.get(f"/deck/models/{accepted['model']['id']}")).json()
                if model["downloaded"]:
                    break
                await asyncio.sleep(0.02)
    async with AsyncOpenAI(base_url=f"{core.url}/v1", api_key="none", max_retries=0) as client:
        yield client


def said(text: str) -> list[Any]:
    return [{"role": "user", "content": text}]


async def test_models_and_chats_whole_and_streamed(client: AsyncOpenAI) -> None:
    listed = [model async for model in client.models.list()]
    assert [model.id for model in listed] == [TINY]
    assert (await client.models.retrieve(TINY)).owned_by == "deck"

    topic = TOPICS[0]
    whole = await client.chat.completions.create(
        model=TINY, messages=said(topic), temperature=0, max_tokens=200
    )
    answer = whole.choices[0]
    assert (answer.message.content, answer.finish_reason) == (expected(topic), "stop")
    assert whole.usage is not None
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens

    pieces = [
        piece
        async for piece in await client.chat.completions.create(
            model="tiny-GGUF:Q8_0",
            messages=said(topic),
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
    ]
    assert pieces[0].choices[0].delta.role == "assistant"
    text = [piece.choices[0].delta.content or "" for piece in pieces[:-1]]
    assert "".join(text) == expected(topic)
    assert pieces[-2].choices[0].finish_reason == "stop"
    assert pieces[-1].usage == whole.usage

    short = await client.chat.completions.create(
        model=TINY, messages=said(topic), temperature=0, max_tokens=2
    )
    assert short.choices[0].finish_reason == "length"


REFUSED: list[tuple[dict[str, Any], type[openai.APIStatusError], str]] = [
    ({"model": "none"}, openai.NotFoundError, "none"),
    ({"model": "Qwen3-0.6B-GGUF:Q8_0"}, openai.APIStatusError, ""),
    ({"n": 2}, openai.BadRequestError, "n other than 1"),
    ({"temperature": 9}, openai.BadRequestError, "temperature"),
    ({"messages": []}, openai.BadRequestError, "messages"),
    ({"messages": [{"role": "nobody", "content": "a"}]}, openai.BadRequestError, "role"),
    ({"tools": [{"type": "function"}]}, openai.BadRequestError, "tools"),
    ({"max_tokens": 0}, openai.BadRequestError, "max_tokens"),
]


async def test_refusals_are_openai_s_errors(client: AsyncOpenAI) -> None:
    for asked, error, words in REFUSED:
        request: dict[str, Any] = {"model": TINY, "messages": said("a"), **asked}
        with pytest.raises(error) as caught:
            await client.chat.completions.create(**request)
        body: Any = caught.value.body
        assert body["type"] == "invalid_request_error"
        assert words in body["message"]


class Engine:
    """A service with one model that is loaded, and that answers as it is told."""

    def __init__(self, *pieces: Chunk | DeckError | None) -> None:
        """None stands for waiting for ever."""
        self.pieces = pieces
        self.left: list[str] = []

    def model(self, ref: str) -> Model:
        return Model(id="1", unique="a/b", name="b", format="gguf", source="custom")

    def instance_of(self, model_id: str) -> Instance:
        return Instance(
            id="i", model_id="1", unique="a/b", state=InstanceState.READY, engine="llama.cpp"
        )

    @asynccontextmanager
    async def generate(
        self, instance_id: str, request: GenerateRequest
    ) -> AsyncIterator[AsyncIterator[Chunk]]:
        async with aclosing(self._chunks()) as chunks:
            try:
                yield chunks
            finally:
                self.left.append(instance_id)

    async def _chunks(self) -> AsyncGenerator[Chunk, None]:
        for piece in self.pieces:
            if isinstance(piece, DeckError):
                raise piece
            if piece is None:
                await asyncio.Event().wait()
            else:
                yield piece


def asked(*, stream: bool) -> bytes:
    body = b'{"model":"b","messages":[{"role":"user","content":"a"}],"stream":%b}' % (
        b"true" if stream else b"false"
    )
    return (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    )


@pytest.mark.parametrize(
    ("pieces", "stream"),
    [([Chunk(text="a"), None], True), ([None], True), ([Chunk(text="a"), None], False)],
)
async def test_a_client_that_leaves_ends_its_answer(
    serve: Serve, until: Until, pieces: list[Chunk | None], stream: bool
) -> None:
    engine = Engine(*pieces)
    client = await (await serve(deck=engine)).connect()
    await client.send(asked(stream=stream))
    if stream and pieces[0]:
        await client.head()
    await client.close()
    await until(lambda: engine.left == ["i"])


async def test_what_fails_before_the_first_word_fails_with_its_status(serve: Serve) -> None:
    for stream in (True, False):
        answer = await (await serve(deck=Engine(Busy("Full.")))).ask(asked(stream=stream))
        assert answer.status == 503
        assert b"Full." in answer.body


@pytest.mark.parametrize(
    ("pieces", "words"),
    [
        ([Chunk(text="a"), EngineFailed("It died.")], b"It died."),
        ([Chunk(text="a"), Chunk(finish_reason="cancelled")], b"unloaded"),
    ],
)
async def test_what_fails_later_is_an_event_or_a_status(
    serve: Serve, pieces: list[Chunk | DeckError], words: bytes
) -> None:
    served = await serve(deck=Engine(*pieces))
    answer = await served.ask(asked(stream=True))
    assert answer.status == 200
    assert b'"content":"a"' in answer.body
    assert words in answer.body.split(b"\n\n")[-2]
    assert b"[DONE]" not in answer.body
    answer = await served.ask(asked(stream=False))
    assert answer.status >= 499
    assert words in answer.body


def chat(**fields: Any) -> ChatBody:
    message = ChatMessage(role="user", content="hello")
    return ChatBody(**{"model": "m", "messages": [message], **fields})


def test_forms_become_a_request_for_an_engine() -> None:
    parts = [Part(type="text", text="a"), Part(type="text", text="b")]
    made = generate_request(
        chat(
            messages=[
                ChatMessage(role="system", content="s"),
                ChatMessage(role="user", content=parts),
                ChatMessage(role="assistant"),
            ],
            max_tokens=1,
            max_completion_tokens=2,
            stop="end",
            seed=-1,
            response_format={"type": "text"},
        )
    )
    assert [message.content for message in made.messages] == ["s", "ab", ""]
    assert (made.max_tokens, made.stop, made.seed) == (2, ("end",), 0xFFFF_FFFF)
    assert generate_request(chat(stop=["", "x"])).stop == ("x",)


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 0},
        {"logprobs": True},
        {"tools": [{}]},
        {"response_format": {"type": "json_object"}},
        {"stop": ["x"] * 17},
        {"messages": [ChatMessage(role="user", content=[Part(type="image_url")])]},
    ],
)
def test_what_is_not_done_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        generate_request(chat(**fields))


def test_counts() -> None:
    assert Usage.of(Chunk(prompt_tokens=3, completion_tokens=4)).total_tokens == 7
    assert Usage.of(Chunk()).total_tokens == 0
