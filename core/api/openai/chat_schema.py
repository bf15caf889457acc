"""Bodies and responses of `/v1/chat/completions`, and conversions of our records. Pure.

Source: https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from modeldeck.core.api.openai.request_schema import (
    MODES,
    Alternatives,
    Ended,
    Sampling,
    Timings,
    Tokens,
    ToolForm,
    Usage,
    ended,
    refuse,
    tools_of,
)
from modeldeck.core.errors import InvalidRequest
from modeldeck.core.schema import Chunk, GenerateRequest, Message, TokenLogprob, ToolCall

Role = Literal["system", "user", "assistant", "tool", "developer"]


# Requests


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentPart:
    """A part of a message."""

    type: str
    """Only `text` and `refusal` are supported."""
    text: str = ""
    refusal: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalledFunction:
    """A called function and its arguments."""

    name: str
    arguments: str
    """A JSON object as text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallForm:
    """A tool call of the model."""

    id: str
    function: CalledFunction
    type: Literal["function"] = "function"

    @classmethod
    def of(cls, call: ToolCall) -> CallForm:
        """Convert our record."""
        return cls(id=call.id, function=CalledFunction(name=call.name, arguments=call.arguments))


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatMessage:
    """One message of a conversation."""

    role: Role
    content: str | list[ContentPart] | None = None
    tool_calls: list[CallForm] | None = None
    tool_call_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedFunction:
    """The name of a function."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenTool:
    """A tool that the model must call."""

    type: str
    """Only `function` is supported."""
    function: NamedFunction | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedSchema:
    """A JSON Schema and its name."""

    name: str = ""
    schema: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseFormat:
    """The format of the answer."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    json_schema: NamedSchema | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatBody(Sampling):
    """A request for the next message of a conversation."""

    messages: Annotated[list[ChatMessage], msgspec.Meta(min_length=1)]
    max_completion_tokens: Tokens | None = None
    """Newer name of `max_tokens`; takes precedence over it."""
    logprobs: bool | None = None
    top_logprobs: Alternatives | None = None
    response_format: ResponseFormat | None = None
    tools: list[ToolForm] | None = None
    tool_choice: str | ChosenTool | None = None
    """`auto`, `none`, `required`, or the function to call."""
    parallel_tool_calls: bool | None = None
    """False for at most one call."""
    functions: list[Any] | None = None
    """Older form of `tools`, refused; so are `function_call`, `audio` and web search."""
    function_call: Any = None
    audio: Any = None
    modalities: list[str] | None = None
    web_search_options: Any = None


def generate_request(body: ChatBody) -> GenerateRequest:
    """The request to an engine. Raises InvalidRequest for unsupported fields."""
    refuse(
        {
            "functions, the older form of tools,": bool(body.functions),
            "function_call, the older form of tool_choice,": body.function_call is not None,
            "audio": body.audio is not None or "audio" in (body.modalities or ()),
            "web_search_options": body.web_search_options is not None,
        }
    )
    sampling = body.sampling()
    sampling["max_tokens"] = body.max_completion_tokens or body.max_tokens
    tools = tools_of(body.tools)
    return GenerateRequest(
        messages=tuple(_message(message) for message in body.messages),
        json_schema=_schema(body.response_format),
        tools=tools,
        tool_choice=_choice(body.tool_choice, {tool.name for tool in tools}),
        logprobs=_logprobs(body),
        **sampling,
    )


def _logprobs(body: ChatBody) -> int | None:
    if body.top_logprobs and not body.logprobs:
        raise InvalidRequest("top_logprobs needs logprobs.", "Set logprobs to true.")
    return (body.top_logprobs or 0) if body.logprobs else None


def _schema(form: ResponseFormat | None) -> dict[str, Any] | None:
    if form is None or form.type == "text":
        return None
    if form.type == "json_object":
        return {}
    if form.json_schema is None or form.json_schema.schema is None:
        raise InvalidRequest("response_format has no json_schema.schema.", "Send the schema.")
    return form.json_schema.schema


def _choice(choice: str | ChosenTool | None, names: set[str]) -> str | None:
    """The tool choice of the request to an engine. Raises InvalidRequest."""
    if choice is None:
        return None
    if isinstance(choice, str):
        if choice not in MODES:
            raise InvalidRequest(
                f"tool_choice cannot be {choice[:40]!r}.", f"It is {', '.join(MODES)} or a tool."
            )
        if choice == "required" and not names:
            raise InvalidRequest("tool_choice is required, but there are no tools.")
        return choice if names else None
    if choice.type != "function" or choice.function is None:
        raise InvalidRequest(f"tool_choice of type {choice.type[:40]!r} is not supported.")
    if choice.function.name not in names:
        raise InvalidRequest(f"tool_choice names no tool: {choice.function.name[:64]!r}.")
    return choice.function.name


def _message(message: ChatMessage) -> Message:
    content = message.content
    if isinstance(content, list):
        if other := next((p.type for p in content if p.type not in ("text", "refusal")), None):
            raise InvalidRequest(
                f"Message parts of type {other[:40]!r} are not supported.", "Send text only."
            )
        content = "".join(part.text or part.refusal for part in content)
    return Message(
        role=message.role,
        content=content or "",
        tool_calls=tuple(
            ToolCall(id=call.id, name=call.function.name, arguments=call.function.arguments)
            for call in message.tool_calls or ()
        ),
        tool_call_id=message.tool_call_id,
    )


def calls_of(body: ChatBody, last: Chunk) -> tuple[ToolCall, ...]:
    """The tool calls of an answer; at most one without `parallel_tool_calls`."""
    return last.tool_calls[:1] if body.parallel_tool_calls is False else last.tool_calls


# Responses


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """A likely token at a position."""

    token: str
    logprob: float
    bytes: list[int]
    """The token in UTF-8."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenForm(Alternative):
    """A token of the answer, with its alternatives."""

    top_logprobs: list[Alternative]

    @classmethod
    def of(cls, token: TokenLogprob) -> TokenForm:
        """Convert our record."""
        return cls(
            token=token.token,
            logprob=token.logprob,
            bytes=list(token.token.encode()),
            top_logprobs=[
                Alternative(token=text, logprob=logprob, bytes=list(text.encode()))
                for text, logprob in token.top
            ],
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatLogprobs:
    """Log probabilities of the tokens of an answer."""

    content: list[TokenForm]
    refusal: None = None

    @classmethod
    def of(cls, tokens: tuple[TokenLogprob, ...]) -> ChatLogprobs | None:
        """Convert our records; None for none."""
        return cls(content=[TokenForm.of(token) for token in tokens]) if tokens else None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerMessage:
    """The message of the answer."""

    content: str | None
    """None where the message has only tool calls."""
    role: Literal["assistant"] = "assistant"
    tool_calls: list[CallForm] | UnsetType = UNSET
    refusal: None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One answer; there is always exactly one."""

    message: AnswerMessage
    finish_reason: Ended
    index: int = 0
    logprobs: ChatLogprobs | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """A complete answer."""

    id: str
    created: int
    """Seconds since the epoch."""
    model: str
    choices: list[Choice]
    usage: Usage
    timings: Timings
    object: Literal["chat.completion"] = "chat.completion"


@dataclass(frozen=True, slots=True, kw_only=True)
class CallDelta:
    """A tool call in a stream, sent in one piece."""

    index: int
    id: str
    function: CalledFunction
    type: Literal["function"] = "function"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delta:
    """Addition of a chunk to the message."""

    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType = UNSET
    tool_calls: list[CallDelta] | UnsetType = UNSET


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkChoice:
    """Addition of a chunk to the answer."""

    delta: Delta
    finish_reason: Ended | None = None
    index: int = 0
    logprobs: ChatLogprobs | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletionChunk:
    """A chunk of a streamed answer."""

    id: str
    created: int
    model: str
    choices: list[ChunkChoice] = field(default_factory=list)
    usage: Usage | None = None
    timings: Timings | None = None
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"


def answer_of(whole: Chunk, *, id: str, created: int, model: str) -> Completion:
    """The complete answer, from its joined pieces."""
    calls = [CallForm.of(call) for call in whole.tool_calls]
    message = AnswerMessage(
        content=whole.text or None if calls else whole.text, tool_calls=calls or UNSET
    )
    choice = Choice(
        message=message, finish_reason=ended(whole), logprobs=ChatLogprobs.of(whole.logprobs)
    )
    return Completion(
        id=id,
        created=created,
        model=model,
        choices=[choice],
        usage=Usage.of(whole),
        timings=Timings.of(whole),
    )


def opening(blank: CompletionChunk) -> CompletionChunk:
    """The first chunk of a stream, with the role."""
    return _adding(blank, Delta(role="assistant", content=""))


def piece(blank: CompletionChunk, chunk: Chunk) -> CompletionChunk:
    """A chunk of text."""
    return _adding(blank, Delta(content=chunk.text), logprobs=ChatLogprobs.of(chunk.logprobs))


def calling(blank: CompletionChunk, calls: tuple[ToolCall, ...]) -> CompletionChunk:
    """The chunk with the tool calls."""
    forms = (CallForm.of(call) for call in calls)
    deltas = [CallDelta(index=n, id=f.id, function=f.function) for n, f in enumerate(forms)]
    return _adding(blank, Delta(tool_calls=deltas))


def ending(blank: CompletionChunk, last: Chunk) -> CompletionChunk:
    """The chunk with the finish reason."""
    return _adding(blank, Delta(), finish_reason=ended(last))


def usage(blank: CompletionChunk, last: Chunk) -> CompletionChunk:
    """The final chunk with the usage, where that was requested."""
    return replace(blank, usage=Usage.of(last), timings=Timings.of(last))


def _adding(blank: CompletionChunk, delta: Delta, **more: Any) -> CompletionChunk:
    return replace(blank, choices=[ChunkChoice(delta=delta, **more)])
