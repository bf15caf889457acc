"""Bodies and responses of Ollama's API, and conversions of our records. Pure.

Source: https://github.com/ollama/ollama/blob/main/docs/api.md. Durations are in nanoseconds. A
field that would change the answer and is not supported is refused; unknown options are ignored, as
Ollama does.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from modeldeck.core.api.call_input import input_of
from modeldeck.core.api.inference import seconds
from modeldeck.core.api.message_content import joined, media_content
from modeldeck.core.api.ollama.options import Options
from modeldeck.core.api.openai.chat_request import ChosenTool, TokenForm, choice_of
from modeldeck.core.api.openai.shared_fields import Alternatives, ToolForm, tools_of
from modeldeck.core.api.thinking_fields import thinking_fields
from modeldeck.core.errors import InvalidRequest
from modeldeck.core.schema import (
    Chunk,
    GenerateRequest,
    Media,
    Message,
    Priority,
    TokenLogprob,
    ToolCall,
)

Role = Literal["system", "user", "assistant", "tool", "developer"]
Ended = Literal["stop", "length", "load", "unload"]

THINK_LEVELS = ("low", "medium", "high", "max")
"""Values of `think` besides true and false."""


def moment(at: datetime | None = None) -> str:
    """A time in Ollama's notation: ISO 8601, UTC."""
    return (at or datetime.now(UTC)).isoformat().replace("+00:00", "Z")


# Requests


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelNameBody:
    """A body that names a model."""

    model: str = ""
    name: str = ""
    """Older name of `model`."""

    @property
    def wanted(self) -> str:
        """The name. Raises InvalidRequest if it is missing."""
        if not (self.model or self.name).strip():
            raise InvalidRequest("model is missing.", "Name one; /api/tags lists them.")
        return self.model or self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRequest(ModelNameBody):
    """Fields of every request to a model."""

    options: Options | None = None
    keep_alive: float | str | None = None
    """How long the model stays loaded afterwards: seconds, or "5m"; 0 unloads it, a negative number
    keeps it loaded."""
    priority: Priority | int | None = None
    """An extension: `batch` is answered after `interactive`, the default."""

    def given(self) -> Options:
        """The options."""
        return self.options or Options()

    def keep_alive_s(self) -> float | None:
        """How long the model stays loaded, in seconds. Raises InvalidRequest."""
        return seconds(self.keep_alive)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextOptionsBody(ModelRequest):
    """Fields of both text requests."""

    stream: bool | None = None
    """Streamed unless false."""
    format: str | dict[str, Any] | None = None
    """`json`, or the JSON Schema of the answer."""
    think: bool | str | None = None
    """Whether it thinks before it answers, or how much: `low`, `medium`, `high` or `max`."""
    truncate: bool | None = None
    """False to refuse a conversation that is too long; else its oldest messages are left out."""
    logprobs: bool | None = None
    top_logprobs: Alternatives | None = None

    def request_fields(self) -> dict[str, Any]:
        """Fields of a `GenerateRequest`. Raises InvalidRequest for impossible ones."""
        if isinstance(self.think, str) and self.think not in ("", *THINK_LEVELS):
            raise InvalidRequest(
                f"think cannot be {self.think[:40]!r}.",
                f"It is true, false, {', '.join(THINK_LEVELS)}.",
            )
        return {
            **self.given().sampling(),
            **thinking_fields(
                switch=self.think if isinstance(self.think, bool) else None,
                effort=self.think if isinstance(self.think, str) else None,
            ),
            "json_schema": self._schema(),
            "logprobs": (self.top_logprobs or 0) if self.logprobs else None,
        }

    @property
    def wants_thought(self) -> bool:
        """Whether it asks for a thought, which a model that has none must refuse."""
        return self.think not in (None, False, "")

    def _schema(self) -> dict[str, Any] | None:
        if isinstance(self.format, dict) or not self.format:
            return self.format or None
        if self.format != "json":
            raise InvalidRequest(f"format cannot be {self.format[:40]!r}.", 'It is "json".')
        return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class OllamaFunction:
    """A called function and its arguments."""

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    index: int | UnsetType = UNSET
    """Its place among the calls of the answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OllamaCall:
    """A tool call of the model."""

    function: OllamaFunction
    id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OllamaMessage:
    """One message of a conversation."""

    role: Role
    content: str | None = ""
    thinking: str | None = None
    """What the assistant thought."""
    images: list[str] | None = None
    """In base64; they stand before the text."""
    tool_calls: list[OllamaCall] | None = None
    tool_name: str | None = None
    """Name of the called tool, in a message of role `tool`."""
    tool_call_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OllamaChatBody(TextOptionsBody):
    """A request for the next message of a conversation; without messages, to load the model."""

    messages: list[OllamaMessage] | None = None
    tools: list[ToolForm] | None = None
    tool_choice: str | ChosenTool | None = None
    """An extension, in OpenAI's form: programs send it, and Ollama passes it over."""

    def request(self) -> GenerateRequest | None:
        """The request to an engine; None without messages or prompt. Raises InvalidRequest."""
        fields, tools = self.request_fields(), tools_of(self.tools)
        if not self.messages:
            return None
        choice = choice_of(self.tool_choice, {tool.name for tool in tools})
        return GenerateRequest(
            messages=conversation(self.messages), tools=tools, tool_choice=choice, **fields
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateBody(TextOptionsBody):
    """A request for an answer to a prompt; without one, to load the model."""

    prompt: str | None = None
    system: str | None = None
    raw: bool | None = None
    """Use the prompt as it is, without a chat template."""
    suffix: str | None = None
    """Text after the answer: a model for code fills the gap between the prompt and it."""
    images: list[str] | None = None
    """In base64; they stand before the prompt."""

    def request(self) -> GenerateRequest | None:
        """The request to an engine; None without messages or prompt. Raises InvalidRequest."""
        fields = self.request_fields()
        if self.images and (self.raw or self.suffix):
            raise InvalidRequest(
                "images do not go with raw or suffix: their place is told by the chat template.",
                "Leave raw and suffix out.",
            )
        if self.suffix:
            return GenerateRequest(prompt=self.prompt or "", suffix=self.suffix, **fields)
        if not self.prompt and not self.images:
            return None
        if self.raw:
            return GenerateRequest(prompt=self.prompt, **fields)
        before = (Message(role="system", content=self.system),) if self.system else ()
        media = _images(self.images, "images")
        asked = Message(role="user", content=self.prompt or "", media=media)
        return GenerateRequest(messages=(*before, asked), **fields)


def conversation(messages: list[OllamaMessage]) -> tuple[Message, ...]:
    """Convert the messages.

    Ollama's tool calls need no id, and a tool's answer may only name its tool: it is assigned to
    the first unanswered call of that tool, else to the first unanswered call.
    """
    made: list[Message] = []
    open_calls: list[ToolCall] = []
    for message in messages:
        calls = tuple(
            _call(form, f"call{len(made):03d}{number:02d}")
            for number, form in enumerate(message.tool_calls or ())
        )
        open_calls += calls
        answered = message.tool_call_id
        if message.role == "tool" and answered is None and open_calls:
            named = [call for call in open_calls if call.name == message.tool_name]
            call = (named or open_calls)[0]
            open_calls.remove(call)
            answered = call.id
        made.append(
            Message(
                role=message.role,
                content=message.content or "",
                media=_images(message.images, f"messages[{len(made)}].images"),
                thought=(message.thinking or "") if message.role == "assistant" else "",
                tool_calls=calls,
                tool_call_id=answered,
            )
        )
    return tuple(made)


def _images(images: list[str] | None, place: str) -> tuple[Media, ...]:
    """Images before a text."""
    found = (
        media_content("image", image, f"{place}[{number}]", is_base64=True)
        for number, image in enumerate(images or ())
    )
    return joined(found).media


def _call(form: OllamaCall, otherwise: str) -> ToolCall:
    arguments = json.dumps(form.function.arguments, ensure_ascii=False)
    return ToolCall(id=form.id or otherwise, name=form.function.name, arguments=arguments)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedBody(ModelRequest):
    """A request for the vectors of texts."""

    input: str | list[str] = field(default_factory=list)
    dimensions: Annotated[int, msgspec.Meta(ge=1, le=1 << 16)] | None = None
    """Return only this many leading numbers, scaled to length 1."""
    truncate: bool | None = None
    """False to refuse a text that is too long; else its end is cut off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingBody(ModelRequest):
    """The older request for the vector of one text."""

    prompt: str = ""


# Responses


class OllamaAnswerMessage(msgspec.Struct, frozen=True, kw_only=True):
    """The message of an answer, or a piece of it."""

    content: str
    role: Literal["assistant"] = "assistant"
    thinking: str | UnsetType = UNSET
    """What it thought before."""
    tool_calls: list[OllamaCall] | UnsetType = UNSET


class GenerateResponse(msgspec.Struct, frozen=True, kw_only=True):
    """An answer, or a piece of one. `message` is for a chat, `response` for a prompt."""

    model: str
    """The name as in the request."""
    created_at: str
    message: OllamaAnswerMessage | UnsetType = UNSET
    response: str | UnsetType = UNSET
    thinking: str | UnsetType = UNSET
    """With `response`: what it thought before."""
    logprobs: list[TokenForm] | UnsetType = UNSET
    done: bool = False
    done_reason: Ended | UnsetType = UNSET
    total_duration: int | UnsetType = UNSET
    load_duration: int | UnsetType = UNSET
    prompt_eval_count: int | UnsetType = UNSET
    prompt_eval_duration: int | UnsetType = UNSET
    eval_count: int | UnsetType = UNSET
    eval_duration: int | UnsetType = UNSET


def nanoseconds(duration_s: float) -> int:
    """A duration in Ollama's unit."""
    return max(0, round(duration_s * 1e9))


def metrics(last: Chunk, *, load_s: float, total_s: float) -> dict[str, Any]:
    """The counts and durations of an answer, from its last piece."""
    first_s = last.time_to_first_token_s or 0.0
    return {
        "done": True,
        "done_reason": "length" if last.finish_reason == "length" else "stop",
        "total_duration": nanoseconds(total_s),
        "load_duration": nanoseconds(load_s),
        "prompt_eval_count": last.prompt_tokens or 0,
        "prompt_eval_duration": nanoseconds(first_s),
        "eval_count": last.completion_tokens or 0,
        "eval_duration": nanoseconds(total_s - load_s - first_s),
    }


def calls_of(calls: tuple[ToolCall, ...]) -> list[OllamaCall] | UnsetType:
    """Convert our tool calls; unset for none.

    One that is not complete is left out: Ollama's clients do not look at why an answer ended.
    """
    return [
        OllamaCall(
            id=call.id,
            function=OllamaFunction(name=call.name, arguments=input_of(call), index=number),
        )
        for number, call in enumerate(calls)
        if call.complete
    ] or UNSET


def logprobs_of(tokens: tuple[TokenLogprob, ...]) -> list[TokenForm] | UnsetType:
    """Convert our records; unset for none."""
    return [TokenForm.of(token) for token in tokens] or UNSET


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedded:
    """The vectors of texts."""

    model: str
    embeddings: list[list[float]]
    total_duration: int
    load_duration: int
    prompt_eval_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedOne:
    """The vector of one text."""

    embedding: list[float]
