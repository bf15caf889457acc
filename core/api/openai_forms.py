"""Bodies and answers of the OpenAI API, and how ours become them. Pure.

Field names and meanings are theirs: https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import msgspec

from core.errors import InvalidRequest
from core.schema import Chunk, GenerateRequest, Message

Probability = Annotated[float, msgspec.Meta(ge=0, le=1)]
Penalty = Annotated[float, msgspec.Meta(ge=-2, le=2)]
Tokens = Annotated[int, msgspec.Meta(ge=1, le=1 << 24)]
Role = Literal["system", "user", "assistant", "tool", "developer"]
Ended = Literal["stop", "length"]

MOST_STOPS = 16
"""Stop strings in one request; OpenAI takes 4."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of a message."""

    type: str
    """Only `text` is taken."""
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatMessage:
    """One message of a conversation."""

    role: Role
    content: str | list[Part] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions:
    """What a stream tells besides the text."""

    include_usage: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatBody:
    """A request for the next message of a conversation."""

    model: str
    """An id, a unique name, or an unambiguous short name."""
    messages: Annotated[list[ChatMessage], msgspec.Meta(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None
    """The newer name of `max_tokens`, and wins over it."""
    temperature: Annotated[float, msgspec.Meta(ge=0, le=2)] | None = None
    top_p: Probability | None = None
    top_k: Annotated[int, msgspec.Meta(ge=0, le=1 << 20)] | None = None
    min_p: Probability | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repeat_penalty: Annotated[float, msgspec.Meta(ge=0, le=10)] | None = None
    seed: Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)] | None = None
    stop: str | list[str] | None = None
    n: int | None = None
    logprobs: bool | None = None
    tools: list[Any] | None = None
    response_format: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """What a request took, in tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int

    @classmethod
    def of(cls, last: Chunk) -> Usage:
        """The counts that the last piece of an answer has."""
        prompt, completion = last.prompt_tokens or 0, last.completion_tokens or 0
        return cls(
            prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """How fast an answer was; not a part of OpenAI's form."""

    tokens_per_s: float | None = None
    time_to_first_token_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerMessage:
    """The message that answers."""

    content: str
    role: Literal["assistant"] = "assistant"
    refusal: None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One answer; there is never a second."""

    message: AnswerMessage
    finish_reason: Ended
    index: int = 0
    logprobs: None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """A whole answer."""

    id: str
    created: int
    """Seconds since the epoch."""
    model: str
    choices: list[Choice]
    usage: Usage
    timings: Timings
    object: Literal["chat.completion"] = "chat.completion"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkChoice:
    """What a piece adds to the answer."""

    delta: dict[str, str]
    finish_reason: Ended | None = None
    index: int = 0
    logprobs: None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionChunk:
    """A piece of a streamed answer."""

    id: str
    created: int
    model: str
    choices: list[ChunkChoice] = field(default_factory=list)
    usage: Usage | None = None
    timings: Timings | None = None
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenModel:
    """A model, in OpenAI's form."""

    id: str
    created: int
    owned_by: str
    object: Literal["model"] = "model"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelList:
    """Models, in OpenAI's form."""

    data: list[OpenModel]
    object: Literal["list"] = "list"


def generate_request(body: ChatBody) -> GenerateRequest:
    """What the body asks of an engine. Raises InvalidRequest for what is not done here."""
    _refuse_unknown(body)
    stop = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    if len(stop) > MOST_STOPS:
        raise InvalidRequest(f"stop has more than {MOST_STOPS} strings.")
    return GenerateRequest(
        messages=tuple(_message(message) for message in body.messages),
        max_tokens=body.max_completion_tokens or body.max_tokens,
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=body.top_k,
        min_p=body.min_p,
        presence_penalty=body.presence_penalty,
        frequency_penalty=body.frequency_penalty,
        repeat_penalty=body.repeat_penalty,
        # llama.cpp's seeds have 32 bits; -1 becomes its own "any seed".
        seed=None if body.seed is None else body.seed & 0xFFFF_FFFF,
        stop=tuple(text for text in stop if text),
    )


def _refuse_unknown(body: ChatBody) -> None:
    asked_for = {
        "n other than 1": body.n not in (None, 1),
        "logprobs": bool(body.logprobs),
        "tools": bool(body.tools),
        "response_format other than text": (body.response_format or {}).get("type", "text")
        != "text",
    }
    for what, asked in asked_for.items():
        if asked:
            raise InvalidRequest(f"{what} is not supported.", "Leave it out.")


def _message(message: ChatMessage) -> Message:
    content = message.content
    if isinstance(content, list):
        if other := next((part.type for part in content if part.type != "text"), None):
            raise InvalidRequest(
                f"Message parts of type {other[:40]!r} are not supported.", "Send text only."
            )
        content = "".join(part.text for part in content)
    return Message(role=message.role, content=content or "")


def answer_of(text: str, last: Chunk, *, id: str, created: int, model: str) -> Completion:
    """A whole answer, from its text and its last piece."""
    choice = Choice(message=AnswerMessage(content=text), finish_reason=_ended(last))
    return Completion(
        id=id,
        created=created,
        model=model,
        choices=[choice],
        usage=Usage.of(last),
        timings=timings_of(last),
    )


def timings_of(last: Chunk) -> Timings:
    """How fast the answer was."""
    return Timings(tokens_per_s=last.tokens_per_s, time_to_first_token_s=last.time_to_first_token_s)


def opening(blank: CompletionChunk) -> CompletionChunk:
    """The first piece of a stream: who speaks."""
    return replace(blank, choices=[ChunkChoice(delta={"role": "assistant", "content": ""})])


def piece(blank: CompletionChunk, text: str) -> CompletionChunk:
    """A piece of the text."""
    return replace(blank, choices=[ChunkChoice(delta={"content": text})])


def ending(blank: CompletionChunk, last: Chunk) -> CompletionChunk:
    """The piece that says why the answer ended."""
    return replace(blank, choices=[ChunkChoice(delta={}, finish_reason=_ended(last))])


def usage(blank: CompletionChunk, last: Chunk) -> CompletionChunk:
    """The piece after the last one, where usage was asked for."""
    return replace(blank, usage=Usage.of(last), timings=timings_of(last))


def _ended(last: Chunk) -> Ended:
    return "length" if last.finish_reason == "length" else "stop"
