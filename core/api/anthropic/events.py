"""The events of a streamed answer of `/v1/messages`. Pure.

Every client needs the `event:` lines, and all events that open and close a message and its blocks.
Blocks come one after the other; their index counts over all of them.

Source: https://docs.claude.com/en/docs/build-with-claude/streaming
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

import msgspec

from modeldeck.core.api.anthropic.answer import (
    AnswerRules,
    AnthropicMessage,
    StopReason,
    TextPart,
    ThinkingPart,
    TokenUsage,
    ToolUsePart,
)
from modeldeck.core.api.anthropic.conversation import signature
from modeldeck.core.api.call_input import input_of
from modeldeck.core.api.http.messages import event
from modeldeck.core.schema import Chunk, ToolCall


class _Event(msgspec.Struct, tag_field="type", frozen=True, kw_only=True):
    """An event; its type stands in the data as well."""


class MessageStart(_Event, tag="message_start", frozen=True, kw_only=True):
    """The first event."""

    message: AnthropicMessage


class Ping(_Event, tag="ping", frozen=True, kw_only=True):
    """A sign of life."""


class BlockStart(_Event, tag="content_block_start", frozen=True, kw_only=True):
    """The beginning of a block, without its content."""

    index: int
    content_block: TextPart | ThinkingPart | ToolUsePart


class BlockAddition(msgspec.Struct, frozen=True, kw_only=True):
    """A piece of a block: one of the four fields, by its type."""

    type: Literal["text_delta", "thinking_delta", "signature_delta", "input_json_delta"]
    text: str | msgspec.UnsetType = msgspec.UNSET
    thinking: str | msgspec.UnsetType = msgspec.UNSET
    signature: str | msgspec.UnsetType = msgspec.UNSET
    partial_json: str | msgspec.UnsetType = msgspec.UNSET


class BlockDelta(_Event, tag="content_block_delta", frozen=True, kw_only=True):
    """A piece of the block with this index."""

    index: int
    delta: BlockAddition


class BlockStop(_Event, tag="content_block_stop", frozen=True, kw_only=True):
    """The end of a block."""

    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """Why the answer ended."""

    stop_reason: StopReason
    stop_sequence: str | None = None


class MessageDelta(_Event, tag="message_delta", frozen=True, kw_only=True):
    """The end of the content, and the tokens of the request."""

    delta: Ending
    usage: TokenUsage


class MessageStop(_Event, tag="message_stop", frozen=True, kw_only=True):
    """The last event."""


MessageEvent = (
    MessageStart | Ping | BlockStart | BlockDelta | BlockStop | MessageDelta | MessageStop
)


_NAMES: Mapping[type[MessageEvent], str] = {
    each: str(each.__struct_config__.tag) for each in get_args(MessageEvent)
}


def encoded(*events: MessageEvent) -> bytes:
    """Server-sent events."""
    return b"".join(event(msgspec.json.encode(each), _NAMES[type(each)]) for each in events)


PING = encoded(Ping())


@dataclass(slots=True, kw_only=True)
class EventWriter:
    """Turns the pieces of one answer into events, in order."""

    id: str
    model: str
    rules: AnswerRules
    context: int | None = None
    """Length of the context in tokens, once that is known."""
    _started: bool = field(default=False, init=False)
    _ended: bool = field(default=False, init=False)
    _index: int = field(default=0, init=False)
    _open: Literal["text", "thinking"] | None = field(default=None, init=False)
    _thought: list[str] = field(default_factory=list, init=False)
    """Pieces of the thought of the open block."""

    def alive(self) -> bytes | None:
        """What to send while nothing of the answer is there: first its opening, then pings.

        None at its end: nothing follows `message_stop`.
        """
        if self._ended:
            return None
        return PING if self._started else encoded(*self._opening())

    def feed(self, chunk: Chunk) -> bytes:
        """The events of a piece; none for an empty one."""
        events: list[MessageEvent] = [] if self._started else self._opening()
        if self.rules.max_tokens:
            if chunk.thought:
                events += self._think(chunk.thought)
            if chunk.text:
                events += self._say(chunk.text)
        if chunk.finish_reason is not None:
            events += self._end(chunk)
        return encoded(*events)

    def _opening(self) -> list[MessageEvent]:
        self._started = True
        return [MessageStart(message=AnthropicMessage(id=self.id, model=self.model)), Ping()]

    def _say(self, text: str) -> list[MessageEvent]:
        events = self._change("text")
        return [*events, self._add(BlockAddition(type="text_delta", text=text))]

    def _think(self, thought: str) -> list[MessageEvent]:
        events = self._change("thinking")
        self._thought.append(thought)
        if self.rules.hides_thought:
            return events
        return [*events, self._add(BlockAddition(type="thinking_delta", thinking=thought))]

    def _add(self, addition: BlockAddition) -> BlockDelta:
        return BlockDelta(index=self._index, delta=addition)

    def _change(self, kind: Literal["text", "thinking"]) -> list[MessageEvent]:
        """Events that open a block of this kind, unless one is open."""
        if self._open == kind:
            return []
        events = self._close()
        self._open = kind
        blank = TextPart(text="") if kind == "text" else ThinkingPart(thinking="", signature="")
        return [*events, BlockStart(index=self._index, content_block=blank)]

    def _close(self) -> list[MessageEvent]:
        """Events that close the open block; a thought is signed."""
        if self._open is None:
            return []
        events: list[MessageEvent] = []
        if self._open == "thinking":
            signed = signature("".join(self._thought), shown=not self.rules.hides_thought)
            self._thought.clear()
            events.append(self._add(BlockAddition(type="signature_delta", signature=signed)))
        events.append(BlockStop(index=self._index))
        self._open = None
        self._index += 1
        return events

    def _call(self, call: ToolCall) -> list[MessageEvent]:
        """The events of a call."""
        blank = ToolUsePart(id=call.id, name=call.name, input={})
        whole = json.dumps(input_of(call), ensure_ascii=False) if call.complete else call.arguments
        texts = ("", whole)
        events: list[MessageEvent] = [BlockStart(index=self._index, content_block=blank)]
        events += [
            self._add(BlockAddition(type="input_json_delta", partial_json=text)) for text in texts
        ]
        events.append(BlockStop(index=self._index))
        self._index += 1
        return events

    def _end(self, last: Chunk) -> list[MessageEvent]:
        self._ended = True
        events = self._close()
        if self.rules.max_tokens:
            for call in self.rules.calls(last):
                events += self._call(call)
        reason, sequence = self.rules.stop(last, self.context)
        ending = Ending(stop_reason=reason, stop_sequence=sequence)
        return [*events, MessageDelta(delta=ending, usage=TokenUsage.of(last)), MessageStop()]
