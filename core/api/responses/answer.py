"""The answer object, its items, and its server-sent events, as they go over the wire.

Source: https://platform.openai.com/docs/api-reference/responses/object and
https://platform.openai.com/docs/api-reference/responses-streaming
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from modeldeck.core.api.openai.chat_request import TokenForm
from modeldeck.core.api.responses.request import AnswerBody
from modeldeck.core.errors import ContextExceeded, DeckError, InvalidRequest
from modeldeck.core.schema import Chunk

AnswerStatus = Literal["queued", "in_progress", "completed", "incomplete", "failed", "cancelled"]
ItemStatus = Literal["in_progress", "completed", "incomplete"]


def new_id(prefix: str) -> str:
    """An id of a kind of thing: `resp_`, `msg_`, `rs_`, `fc_`, `ctc_`, `call_` ..."""
    return f"{prefix}_{uuid.uuid4().hex}"


# Items of the output


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputText:
    """The text of a message."""

    text: str
    logprobs: list[TokenForm] = field(default_factory=list)
    annotations: list[Any] = field(default_factory=list)
    """Always empty: nothing is looked up that could be cited."""
    type: Literal["output_text"] = "output_text"


@dataclass(frozen=True, slots=True, kw_only=True)
class ThoughtText:
    """The text of a thought."""

    text: str
    type: Literal["summary_text", "reasoning_text"]


class OutputItem(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """An item of an answer."""

    id: str
    status: ItemStatus


class MessageItem(OutputItem, frozen=True, kw_only=True, tag="message"):
    """What the model says."""

    content: list[OutputText] = []
    role: Literal["assistant"] = "assistant"


class ThoughtItem(OutputItem, frozen=True, kw_only=True, tag="reasoning"):
    """What the model thought before: the same text as a summary and as content."""

    summary: list[ThoughtText] = []
    content: list[ThoughtText] = []
    encrypted_content: str | UnsetType = UNSET
    """The thought encoded, where `include` asks for it."""


class FunctionCallItem(OutputItem, frozen=True, kw_only=True, tag="function_call"):
    """A function that the model asks to be called."""

    call_id: str
    name: str
    arguments: str = ""
    """A JSON object as text."""
    namespace: str | UnsetType = UNSET


class CustomCallItem(OutputItem, frozen=True, kw_only=True, tag="custom_tool_call"):
    """A custom tool that the model asks to be called."""

    call_id: str
    name: str
    input: str = ""
    namespace: str | UnsetType = UNSET


AnyItem = MessageItem | ThoughtItem | FunctionCallItem | CustomCallItem


# The answer


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedDetails:
    """Of the tokens of the input."""

    cached_tokens: int = 0
    cache_write_tokens: int = 0
    """Always 0: what is written costs nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ThoughtDetails:
    """Of the tokens of the output."""

    reasoning_tokens: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerUsage:
    """Tokens of an answer."""

    input_tokens: int
    output_tokens: int
    total_tokens: int
    input_tokens_details: CachedDetails
    output_tokens_details: ThoughtDetails

    @classmethod
    def of(cls, last: Chunk) -> AnswerUsage:
        """The counts in the last piece of an answer."""
        prompt, completion = last.prompt_tokens or 0, last.completion_tokens or 0
        return cls(
            input_tokens=prompt,
            output_tokens=completion,
            total_tokens=prompt + completion,
            input_tokens_details=CachedDetails(cached_tokens=last.cached_tokens or 0),
            output_tokens_details=ThoughtDetails(reasoning_tokens=last.thought_tokens or 0),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerFailure:
    """Why an answer failed."""

    code: str
    message: str

    @classmethod
    def of(cls, error: DeckError) -> AnswerFailure:
        """What is told of an error after the head was sent."""
        code = "invalid_prompt" if isinstance(error, InvalidRequest) else "server_error"
        if isinstance(error, ContextExceeded):
            code = error.code
        return cls(code=code, message=str(error))


@dataclass(frozen=True, slots=True, kw_only=True)
class IncompleteDetails:
    """Why an answer is not complete."""

    reason: Literal["max_output_tokens"] = "max_output_tokens"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasoningEcho:
    """How the model was asked to think."""

    effort: str | None = None
    summary: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TextEcho:
    """The format that was asked for."""

    format: dict[str, Any] = field(default_factory=lambda: {"type": "text"})
    verbosity: str = "medium"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationEcho:
    """The conversation that an answer was given in."""

    id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerObject:
    """An answer."""

    id: str
    created_at: int
    """Seconds since the epoch."""
    model: str
    status: AnswerStatus = "in_progress"
    output: list[AnyItem] = field(default_factory=list)
    completed_at: int | None = None
    error: AnswerFailure | None = None
    incomplete_details: IncompleteDetails | None = None
    usage: AnswerUsage | None = None
    instructions: str | None = None
    max_output_tokens: int | None = None
    max_tool_calls: int | None = None
    parallel_tool_calls: bool = True
    previous_response_id: str | None = None
    prompt_cache_key: str | None = None
    reasoning: ReasoningEcho = field(default_factory=ReasoningEcho)
    safety_identifier: str | None = None
    service_tier: str = "default"
    store: bool = True
    temperature: float | None = None
    """None for the engine's own default, as `top_p`."""
    text: TextEcho = field(default_factory=TextEcho)
    tool_choice: Any = "auto"
    tools: list[Any] = field(default_factory=list)
    top_logprobs: int = 0
    top_p: float | None = None
    truncation: Literal["auto", "disabled"] = "disabled"
    user: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    background: bool = False
    conversation: ConversationEcho | None = None
    object: Literal["response"] = "response"

    @classmethod
    def begun(cls, body: AnswerBody, model: str, *, id: str, created_at: int) -> AnswerObject:
        """An answer that has nothing yet, with what its request asked for."""
        reasoning = body.reasoning
        form = body.text.format if body.text is not None else None
        conversation = body.conversation_id()
        return cls(
            id=id,
            created_at=created_at,
            model=model,
            instructions=body.instructions,
            max_output_tokens=body.max_output_tokens,
            max_tool_calls=body.max_tool_calls,
            parallel_tool_calls=body.parallel_tool_calls is not False,
            previous_response_id=body.previous_response_id,
            prompt_cache_key=body.prompt_cache_key,
            reasoning=ReasoningEcho(
                effort=reasoning.effort if reasoning else None,
                summary=(reasoning.summary or reasoning.generate_summary) if reasoning else None,
            ),
            safety_identifier=body.safety_identifier,
            store=body.is_stored,
            temperature=body.temperature,
            text=TextEcho(
                format=_without_none(form) if form is not None else {"type": "text"},
                verbosity=(body.text.verbosity if body.text else None) or "medium",
            ),
            tool_choice=body.tool_choice or "auto",
            tools=body.tools or [],
            top_logprobs=body.top_logprobs or 0,
            top_p=body.top_p,
            truncation=body.truncation or "disabled",
            user=body.user,
            metadata=body.metadata or {},
            background=bool(body.background),
            status="queued" if body.background else "in_progress",
            conversation=ConversationEcho(id=conversation) if conversation is not None else None,
        )


def _without_none(form: object) -> dict[str, Any]:
    """A record as JSON has it, without the fields that were not sent."""
    fields: dict[str, Any] = msgspec.to_builtins(form)
    return {name: value for name, value in fields.items() if value is not None}


# Events


class AnswerEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A server-sent event of a streamed answer; which fields it has depends on its type."""

    type: str
    sequence_number: int
    """Counts from 0 without gaps."""
    response: AnswerObject | UnsetType = UNSET
    item_id: str | UnsetType = UNSET
    output_index: int | UnsetType = UNSET
    content_index: int | UnsetType = UNSET
    summary_index: int | UnsetType = UNSET
    item: AnyItem | UnsetType = UNSET
    part: Any = UNSET
    delta: str | UnsetType = UNSET
    logprobs: list[TokenForm] | UnsetType = UNSET
    text: str | UnsetType = UNSET
    name: str | UnsetType = UNSET
    arguments: str | UnsetType = UNSET
    input: str | UnsetType = UNSET
