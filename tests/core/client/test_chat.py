"""What the client sends is what the API reads, and what the API sends is what the client reads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from modeldeck.core.api.http.messages import convert
from modeldeck.core.api.media_input import decode
from modeldeck.core.api.message_content import UnreadMedia
from modeldeck.core.api.openai.chat_answer import ChatStream, CompletionChunk
from modeldeck.core.api.openai.chat_request import ChatBody, generate_request
from modeldeck.core.api.openai.completions import (
    CompletionBody,
    TextChoice,
    TextCompletion,
    TextLogprobs,
)
from modeldeck.core.api.openai.shared_fields import Timings, Usage
from modeldeck.core.client import chat
from modeldeck.core.schema import (
    Chunk,
    GenerateRequest,
    Media,
    Message,
    TokenLogprob,
    Tool,
    ToolCall,
)

CALL = ToolCall(id="c1", name="add", arguments='{"a":1}')
TOLD = Message(role="user", content="hello")
LOGPROBS = (TokenLogprob(token="é", logprob=-0.5, top=(("é", -0.5), ("b", -1.5))),)


@pytest.mark.parametrize(
    "request_",
    [
        GenerateRequest(messages=(TOLD,)),
        GenerateRequest(
            messages=(
                Message(role="system", content="s"),
                TOLD,
                Message(role="assistant", thought="Hm.", tool_calls=(CALL,)),
                Message(role="tool", content="1", tool_call_id="c1"),
            ),
            max_tokens=5,
            temperature=0.0,
            top_p=0.5,
            top_k=3,
            min_p=0.1,
            presence_penalty=1.0,
            frequency_penalty=-1.0,
            repeat_penalty=1.5,
            seed=7,
            stop=("a", "b"),
            tools=(Tool(name="add", description="Adds.", parameters={"type": "object"}),),
            tool_choice="add",
            logprobs=2,
            repeat_last_n=-1,
            typical_p=0.5,
            top_n_sigma=1.0,
            mirostat=2,
            mirostat_tau=4.0,
            mirostat_eta=0.5,
            dry_multiplier=0.5,
            dry_base=1.5,
            dry_allowed_length=3,
            dry_penalty_last_n=9,
            dry_sequence_breakers=("x",),
            xtc_probability=0.5,
            xtc_threshold=0.25,
            logit_bias={5: -1.0},
            thinking=True,
            thinking_effort="high",
            thinking_budget=64,
            template_options={"x": 1},
        ),
        GenerateRequest(messages=(TOLD,), thinking=False),
        GenerateRequest(messages=(TOLD,), regex="[ab]"),
        GenerateRequest(messages=(TOLD,), json_schema={"type": "array"}),
        GenerateRequest(messages=(TOLD,), json_schema={}),
        GenerateRequest(messages=(TOLD,), json_schema={"type": "null"}, strict_schema=False),
        GenerateRequest(messages=(TOLD,), grammar='root ::= "a"'),
        GenerateRequest(messages=(TOLD,), logprobs=0),
    ],
)
def test_a_chat_survives_the_wire(request_: GenerateRequest) -> None:
    path, body = chat.request_for("m", request_)
    read = convert(msgspec.json.decode(msgspec.json.encode(body)), ChatBody, "The body")
    assert path == "/v1/chat/completions"
    assert (read.model, read.stream, read.with_usage) == ("m", True, True)
    assert generate_request(read) == request_


def test_images_and_recordings_survive_the_wire() -> None:
    media = (
        Media(kind="image", data=b"\x89PNG\r\n\x1a\n", at=0),
        Media(kind="audio", data=b"fLaC", at=1),
        Media(kind="image", data=b"GIF89a", at=1),
        Media(kind="image", data=b"BM", at=2),
    )
    asked = Message(role="user", content="né", media=media)
    _, body = chat.request_for("m", GenerateRequest(messages=(TOLD, asked)))
    read = convert(msgspec.json.decode(msgspec.json.encode(body)), ChatBody, "The body")
    found = generate_request(read).messages[1]
    assert found.content == "né"
    assert [(m.kind, m.at, decode(m)) for m in found.media if isinstance(m, UnreadMedia)] == [
        (m.kind, m.at, m.data) for m in media
    ]
    parts = body["messages"][1]["content"]
    assert parts[0]["image_url"]["url"].startswith("data:image/png;base64,")
    assert parts[2]["input_audio"]["format"] == "flac"


def test_a_prompt_survives_the_wire() -> None:
    asked = GenerateRequest(prompt="Once", max_tokens=3, stop=("x",), logprobs=1)
    path, body = chat.request_for("m", asked)
    read = msgspec.json.decode(msgspec.json.encode(body), type=CompletionBody)
    assert path == "/v1/completions"
    assert read.requests() == [asked]
    endless = chat.request_for("m", GenerateRequest(prompt="Once"))[1]
    assert endless["max_tokens"] > 1 << 20


async def read(pieces: Sequence[Any]) -> list[Chunk]:
    """What the client makes of what the API sends."""

    async def events() -> AsyncIterator[dict[str, Any]]:
        for one in pieces:
            yield msgspec.json.decode(msgspec.json.encode(one))

    return [chunk async for chunk in chat.chunks(events())]


LAST = Chunk(
    finish_reason="tool_calls",
    tool_calls=(CALL,),
    prompt_tokens=3,
    completion_tokens=4,
    thought_tokens=2,
    cached_tokens=1,
    tokens_per_s=5.0,
    time_to_first_token_s=0.5,
)


async def test_a_streamed_chat_is_read_as_it_was() -> None:
    blank = CompletionChunk(id="x", created=1, model="m")
    stream = ChatStream(blank, ChatBody(model="m", messages=[]))
    pieces = [Chunk(thought="Hm."), Chunk(text="é", logprobs=LOGPROBS), LAST]
    usage = replace(blank, usage=Usage.of(LAST), timings=Timings.of(LAST))
    sent = [part for chunk in pieces for part in stream.pieces(chunk)]
    assert await read([stream.opening(), *sent, usage]) == pieces


async def test_a_chat_that_was_cut_as_it_repeats_itself_is_read_as_that() -> None:
    blank = CompletionChunk(id="x", created=1, model="m")
    stream = ChatStream(blank, ChatBody(model="m", messages=[]))
    cut = Chunk(finish_reason="length", looped=True)
    (last,) = await read(stream.pieces(cut))
    assert (last.looped, last.finish_reason) == (True, "length")


async def test_a_streamed_text_is_read_as_it_was() -> None:
    choices = [
        TextChoice(text="é", logprobs=TextLogprobs.of(LOGPROBS)),
        TextChoice(text="", finish_reason="length"),
    ]
    found = await read(
        [TextCompletion(id="x", created=1, model="m", choices=[one]) for one in choices]
    )
    assert found[0] == Chunk(text="é", logprobs=LOGPROBS)
    assert found[1].finish_reason == "length"
