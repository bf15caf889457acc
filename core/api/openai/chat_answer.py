"""Responses of `/v1/chat/completions`, whole and streamed, made of our records. Pure.

Source: https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from msgspec import UNSET, UnsetType

from modeldeck.core.api.openai.chat_messages import CalledFunction, CallForm
from modeldeck.core.api.openai.chat_request import ChatBody, ChatLogprobs, calls_of
from modeldeck.core.api.openai.shared_fields import Ended, Timings, Usage, ended, stop_reason
from modeldeck.core.schema import Chunk, ToolCall


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerMessage:
    """The message of the answer."""

    content: str | None
    """None where the message has only tool calls."""
    role: Literal["assistant"] = "assistant"
    reasoning_content: str | UnsetType = UNSET
    """What it thought before; an extension of DeepSeek, llama-server and others."""
    tool_calls: list[CallForm] | UnsetType = UNSET
    function_call: CalledFunction | UnsetType = UNSET
    """The call, where it was asked for in the older form."""
    refusal: None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One answer."""

    message: AnswerMessage
    finish_reason: Ended
    index: int = 0
    logprobs: ChatLogprobs | None = None
    stop_reason: str | UnsetType = UNSET


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
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[CallDelta] | UnsetType = UNSET
    function_call: CalledFunction | UnsetType = UNSET


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkChoice:
    """Addition of a chunk to the answer."""

    delta: Delta
    finish_reason: Ended | None = None
    index: int = 0
    logprobs: ChatLogprobs | None = None
    stop_reason: str | UnsetType = UNSET


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


def choice_of(whole: Chunk, body: ChatBody, index: int = 0) -> Choice:
    """A complete answer, from its joined pieces."""
    calls = [CallForm.of(call) for call in calls_of(body, whole)]
    thought, text = shown(whole.thought, whole.text, body)
    old = body.functions is not None and body.tools is None
    message = AnswerMessage(
        content=text or None if calls else text,
        reasoning_content=thought or UNSET,
        tool_calls=calls if calls and not old else UNSET,
        function_call=calls[0].function if calls and old else UNSET,
    )
    return Choice(
        message=message,
        finish_reason=ended(whole, old=old),
        index=index,
        logprobs=ChatLogprobs.of(whole.logprobs),
        stop_reason=stop_reason(whole),
    )


def shown(thought: str, text: str, body: ChatBody) -> tuple[str, str]:
    """Thought and text of a whole answer, as the request wants them."""
    if body.thoughts_inline:
        return "", f"<think>\n{thought}\n</think>\n\n{text}" if thought else text
    return thought if body.shows_thoughts else "", text


class ChatStream:
    """Makes the chunks of one streamed answer."""

    def __init__(self, blank: CompletionChunk, body: ChatBody, index: int = 0) -> None:
        """Begin an answer; `blank` has what all chunks share."""
        self._blank = blank
        self._body = body
        self._index = index
        self._old = body.functions is not None and body.tools is None
        self._thinks = False
        """Whether a thought is open in the text."""

    def opening(self) -> CompletionChunk:
        """The first chunk, with the role."""
        return self._adding(Delta(role="assistant", content=""))

    def pieces(self, chunk: Chunk) -> list[CompletionChunk]:
        """The chunks for a piece of the answer, and for its end."""
        made: list[CompletionChunk] = []
        if chunk.thought:
            made += self._thought(chunk.thought)
        if chunk.text or chunk.logprobs:
            text = self._close_thought() + chunk.text
            logprobs = ChatLogprobs.of(chunk.logprobs)
            made.append(self._adding(Delta(content=text), logprobs=logprobs))
        if chunk.finish_reason is not None:
            if rest := self._close_thought():
                made.append(self._adding(Delta(content=rest)))
            if calls := calls_of(self._body, chunk):
                made.append(self._calling(calls))
            how = ended(chunk, old=self._old)
            made.append(self._adding(Delta(), finish_reason=how, stop_reason=stop_reason(chunk)))
        return made

    def _thought(self, text: str) -> list[CompletionChunk]:
        if self._body.thoughts_inline:
            opens = "" if self._thinks else "<think>\n"
            self._thinks = True
            return [self._adding(Delta(content=opens + text))]
        shows = self._body.shows_thoughts
        return [self._adding(Delta(reasoning_content=text))] if shows else []

    def _close_thought(self) -> str:
        was, self._thinks = self._thinks, False
        return "\n</think>\n\n" if was else ""

    def _calling(self, calls: tuple[ToolCall, ...]) -> CompletionChunk:
        forms = [CallForm.of(call) for call in calls]
        if self._old:
            return self._adding(Delta(function_call=forms[0].function))
        deltas = [CallDelta(index=n, id=f.id, function=f.function) for n, f in enumerate(forms)]
        return self._adding(Delta(tool_calls=deltas))

    def _adding(self, delta: Delta, **more: Any) -> CompletionChunk:
        choice = ChunkChoice(delta=delta, index=self._index, **more)
        blank = self._blank  # dataclasses.replace takes as long as all the rest
        return CompletionChunk(
            id=blank.id, created=blank.created, model=blank.model, choices=[choice]
        )
