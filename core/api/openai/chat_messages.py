"""Messages of `/v1/chat/completions`, and their conversion to our records. Pure.

Source: https://platform.openai.com/docs/api-reference/chat
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from modeldeck.core.api.message_content import MessageContent, joined, media_content
from modeldeck.core.errors import InvalidRequest
from modeldeck.core.schema import Message, ToolCall

Role = Literal["system", "user", "assistant", "tool", "developer", "function"]
THOUGHTS = ("thinking", "reasoning")
"""Types of parts that hold what the assistant thought."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageUrl:
    """An image; `detail`, which says how closely to look at it, has no effect."""

    url: str
    """A data: URL, or an address on the web where `api.fetch_images` is on."""
    detail: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InputAudio:
    """A recording."""

    data: str
    """In base64."""
    format: str | None = None
    """`wav`, `mp3` or `flac`; what is in `data` decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContentPart:
    """A part of a message."""

    type: str
    """`text`, `refusal`, `image_url`, `input_audio`, or `thinking` and `reasoning` for what the
    assistant thought."""
    text: str = ""
    refusal: str = ""
    thinking: str = ""
    image_url: ImageUrl | str | None = None
    input_audio: InputAudio | None = None


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
    """`function` is the older name of `tool`."""
    content: str | list[ContentPart] | None = None
    reasoning_content: str | None = None
    """What the assistant thought, as this API gives it; `reasoning` and `thinking` are the names
    that other servers have for it."""
    reasoning: str | None = None
    thinking: str | None = None
    tool_calls: list[CallForm] | None = None
    tool_call_id: str | None = None
    function_call: CalledFunction | None = None
    """The older form of `tool_calls`: one call without an id."""
    name: str | None = None
    """Of role `function`: the function that was called."""
    refusal: str | None = None
    """An earlier answer that was a refusal."""


def conversation(messages: list[ChatMessage]) -> tuple[Message, ...]:
    """Convert the messages. Raises InvalidRequest for parts of other types than `ContentPart` has.

    Calls in the older form have no id, and their answers only name the function: they get ids here.
    """
    made: list[Message] = []
    unanswered: dict[str, str] = {}
    for number, message in enumerate(messages):
        calls = [
            ToolCall(id=call.id, name=call.function.name, arguments=call.function.arguments)
            for call in message.tool_calls or ()
        ]
        if (old := message.function_call) is not None:
            calls.append(ToolCall(id=f"call{number:05d}", name=old.name, arguments=old.arguments))
            unanswered[old.name] = calls[-1].id
        answered = message.tool_call_id
        if message.role == "function":
            answered = unanswered.pop(message.name or "", None) or f"call{number:05d}"
        content, thought = _content(message, f"messages[{number}].content")
        made.append(
            Message(
                role="tool" if message.role == "function" else message.role,
                content=content.text,
                media=content.media,
                thought=thought if message.role == "assistant" else "",
                tool_calls=tuple(calls),
                tool_call_id=answered,
            )
        )
    return tuple(made)


def _content(message: ChatMessage, place: str) -> tuple[MessageContent, str]:
    """Content and thought of a message. Raises InvalidRequest for parts of other types."""
    thought = message.reasoning_content or message.reasoning or message.thinking or ""
    content = message.content
    if not isinstance(content, list):
        return MessageContent(text=content or message.refusal or ""), thought
    thoughts = [part for part in content if part.type in THOUGHTS]
    within = "".join(part.thinking or part.text for part in thoughts)
    said = joined(
        _said(part, f"{place}[{number}]")
        for number, part in enumerate(content)
        if part.type not in THOUGHTS
    )
    return said, thought or within


def _said(part: ContentPart, place: str) -> MessageContent:
    """A part that is no thought."""
    if part.type in ("text", "refusal"):
        return MessageContent(text=part.text or part.refusal)
    if part.type == "image_url" and part.image_url is not None:
        image = part.image_url
        return media_content("image", image if isinstance(image, str) else image.url, place)
    if part.type == "input_audio" and part.input_audio is not None:
        return media_content("audio", part.input_audio.data, place, is_base64=True)
    raise InvalidRequest(
        f"A message part of type {part.type[:40]!r} is not supported, or lacks its field of that "
        f"name (at `$.{place}`).",
        "Send text, image_url or input_audio.",
    )
