"""Answers of `/v1/messages`: the whole message, and the facts that a streamed one shares with it.

Pure. Source: https://docs.claude.com/en/api/messages
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from modeldeck.core.api.anthropic.conversation import signature
from modeldeck.core.api.call_input import input_of
from modeldeck.core.schema import Chunk, ToolCall

StopReason = Literal[
    "end_turn", "max_tokens", "stop_sequence", "tool_use", "model_context_window_exceeded"
]


class TextPart(msgspec.Struct, tag_field="type", tag="text", frozen=True, kw_only=True):
    """What the model says."""

    text: str


class ThinkingPart(msgspec.Struct, tag_field="type", tag="thinking", frozen=True, kw_only=True):
    """What the model thinks before it answers."""

    thinking: str
    signature: str
    """Opaque; to be sent back with the thought."""


class ToolUsePart(msgspec.Struct, tag_field="type", tag="tool_use", frozen=True, kw_only=True):
    """A call of a tool."""

    id: str
    name: str
    input: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputDetails:
    """Parts of the output tokens."""

    thinking_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenUsage:
    """Tokens of a request."""

    input_tokens: int = 0
    """Tokens of the prompt that were read, without those found in the cache."""
    cache_creation_input_tokens: int = 0
    cache_read_input_tokens: int = 0
    """Tokens of the prompt that were found in the cache."""
    output_tokens: int = 0
    output_tokens_details: OutputDetails | UnsetType = UNSET

    @classmethod
    def of(cls, last: Chunk) -> TokenUsage:
        """The counts in the last piece of an answer."""
        cached = last.cached_tokens or 0
        thought = last.thought_tokens
        return cls(
            input_tokens=max(0, (last.prompt_tokens or 0) - cached),
            cache_read_input_tokens=cached,
            output_tokens=last.completion_tokens or 0,
            output_tokens_details=UNSET
            if thought is None
            else OutputDetails(thinking_tokens=thought),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class AnthropicMessage:
    """The answer."""

    id: str
    model: str
    content: list[TextPart | ThinkingPart | ToolUsePart] = field(default_factory=list)
    stop_reason: StopReason | None = None
    stop_sequence: str | None = None
    usage: TokenUsage = field(default_factory=TokenUsage)
    type: Literal["message"] = "message"
    role: Literal["assistant"] = "assistant"


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRules:
    """How an answer is told, by its request."""

    max_tokens: int
    """0 for a request that only reads the prompt: its answer has no content."""
    stop_sequences: tuple[str, ...] = ()
    one_call: bool = False
    """Whether it has at most one call."""
    hides_thought: bool = False
    """Whether the text of the thought is left out."""

    def calls(self, last: Chunk) -> tuple[ToolCall, ...]:
        """The calls that are told."""
        return last.tool_calls[:1] if self.one_call else last.tool_calls

    def stop(self, last: Chunk, context: int | None) -> tuple[StopReason, str | None]:
        """Why the answer ended, and the stop sequence that ended it; `context` is in tokens."""
        if last.finish_reason == "length":
            count = (last.prompt_tokens or 0) + (last.completion_tokens or 0)
            full = context is not None and count >= context
            return "model_context_window_exceeded" if full else "max_tokens", None
        if last.tool_calls:
            return "tool_use", None
        if last.stop_text in self.stop_sequences:
            return "stop_sequence", last.stop_text
        return "end_turn", None

    def parts(self, whole: Chunk) -> list[TextPart | ThinkingPart | ToolUsePart]:
        """The content of a whole answer."""
        found: list[TextPart | ThinkingPart | ToolUsePart] = []
        if self.max_tokens == 0:
            return found
        if whole.thought:
            shown = not self.hides_thought
            found.append(
                ThinkingPart(
                    thinking=whole.thought if shown else "",
                    signature=signature(whole.thought, shown=shown),
                )
            )
        if whole.text:
            found.append(TextPart(text=whole.text))
        found += [
            ToolUsePart(id=call.id, name=call.name, input=input_of(call))
            for call in self.calls(whole)
        ]
        return found


def message_of(
    whole: Chunk, rules: AnswerRules, *, id: str, model: str, context: int | None = None
) -> AnthropicMessage:
    """The complete answer, from its joined pieces; `context` is the length of the context."""
    reason, sequence = rules.stop(whole, context)
    return AnthropicMessage(
        id=id,
        model=model,
        content=rules.parts(whole),
        stop_reason=reason,
        stop_sequence=sequence,
        usage=TokenUsage.of(whole),
    )
