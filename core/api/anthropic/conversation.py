"""Converts a conversation in Anthropic's form to ours. Pure.

Several blocks of a message become one text, and messages of the same role in a row one message, as
Anthropic's API has it. The results of tools come before the text that stands with them. Blocks
without anything that a model could read are left out.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from modeldeck.core.api.http.messages import convert
from modeldeck.core.api.message_content import MessageContent, joined, media_content
from modeldeck.core.errors import InvalidRequest
from modeldeck.core.schema import Message, ToolCall

BILLING = "x-anthropic-billing-header:"
"""Begins a line at the head of the system prompt that Claude Code changes with every request: kept
in, it would make every prefix cache useless."""

SIGNED, KEPT = "md1.", "md1t."
"""Begin the signature of a thought: a hash of its text, or the text where it is not shown."""

NESTED = 8
"""Levels of blocks in blocks that are read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A part of a message."""

    type: str = "text"
    text: str = ""
    id: str = ""
    """Of a call."""
    name: str = ""
    """Of the called tool."""
    input: dict[str, Any] | None = None
    """Of a call."""
    tool_use_id: str = ""
    """The call that a result belongs to."""
    content: Any = None
    """Of a result: a text, or blocks."""
    is_error: bool | None = None
    thinking: str | None = None
    signature: str | None = None
    source: Any = None
    """Of a document or an image."""
    title: str | None = None
    context: str | None = None
    """What the client says about a document."""
    tool_name: str = ""
    """Of a reference to a tool."""


PlacedBlock = tuple[Block, str]
"""A block and its place in the request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnForm:
    """One message of a conversation."""

    role: Literal["user", "assistant", "system"]
    content: str | list[Block]


def signature(thought: str, *, shown: bool) -> str:
    """The signature of a thought; where the thought is not shown, it holds the text.

    >>> signature("Hm.", shown=True), signature("Hm.", shown=False)
    ('md1.6e72d95cb4b4fe164ee677f8', 'md1t.SG0u')
    """
    data = thought.encode("utf-8", "replace")
    if shown:
        return SIGNED + hashlib.sha256(data).hexdigest()[:24]
    return KEPT + base64.urlsafe_b64encode(data).decode()


def conversation(
    system: str | list[Block] | None, turns: Sequence[TurnForm]
) -> tuple[Message, ...]:
    """The messages of a request. Raises InvalidRequest for what the model cannot be given.

    Instructions have the role `developer`, which reaches a model whatever its chat template takes.
    """
    found: list[Message] = []
    if text := _system(system):
        found.append(Message(role="developer", content=text))
    for number, turn in enumerate(turns):
        place = f"messages[{number}].content"
        blocks = list(_blocks(turn.content, place))
        if turn.role == "assistant":
            found.append(_answer(blocks))
        elif turn.role == "system":
            found.append(_message("developer", _content(blocks)))
        else:
            found += _question(blocks)
    return tuple(_merged(found))


def _blocks(content: str | list[Block], place: str) -> Iterator[PlacedBlock]:
    """The blocks of a content, each with its place in the request."""
    blocks = [Block(text=content)] if isinstance(content, str) else content
    return ((block, f"{place}[{number}]") for number, block in enumerate(blocks))


def _message(role: Literal["developer", "user"], content: MessageContent) -> Message:
    return Message(role=role, content=content.text, media=content.media)


def _system(system: str | list[Block] | None) -> str:
    """The system prompt without the line that changes with every request."""
    if system is None:
        return ""
    if isinstance(system, str):
        return _without_billing(system)
    texts = [block.text for block in system]
    return _lines([*map(_without_billing, texts[:1]), *texts[1:]])


def _without_billing(text: str) -> str:
    return text.partition("\n")[2] if text.startswith(BILLING) else text


def _question(blocks: Sequence[PlacedBlock]) -> list[Message]:
    """The messages that a message of the user stands for: results of tools, then the rest."""
    found = [_result(*placed) for placed in blocks if placed[0].type == "tool_result"]
    others = [placed for placed in blocks if placed[0].type != "tool_result"]
    if others or not found:
        found.append(_message("user", _content(others)))
    return found


def _result(block: Block, place: str) -> Message:
    """The result of a tool."""
    content = _within(block.content, f"{place}.content")
    if block.is_error:
        content = _joined(MessageContent(text="Error:"), content)
    return Message(
        role="tool", content=content.text, media=content.media, tool_call_id=block.tool_use_id
    )


def _answer(blocks: Sequence[PlacedBlock]) -> Message:
    """A message of the assistant."""
    thoughts = [_thought(block) for block, _ in blocks if block.type == "thinking"]
    calls = tuple(_call(block) for block, _ in blocks if block.type == "tool_use")
    content = _content([each for each in blocks if each[0].type not in ("thinking", "tool_use")])
    return Message(
        role="assistant",
        content=content.text,
        media=content.media,
        thought=_lines(thoughts),
        tool_calls=calls,
    )


def _call(block: Block) -> ToolCall:
    arguments = json.dumps(block.input or {}, ensure_ascii=False)
    return ToolCall(id=block.id, name=block.name, arguments=arguments)


def _thought(block: Block) -> str:
    """The text of a thought; where it was not shown, from its signature."""
    signed = block.signature or ""
    if block.thinking or not signed.startswith(KEPT):
        return block.thinking or ""
    try:
        return base64.urlsafe_b64decode(signed.removeprefix(KEPT)).decode()
    except (binascii.Error, ValueError):
        return ""  # of another server


def _content(blocks: Iterable[PlacedBlock], depth: int = 0) -> MessageContent:
    return _joined(*(_readable(block, place, depth) for block, place in blocks))


def _readable(block: Block, place: str, depth: int) -> MessageContent:
    """What a model can read of a block. Raises InvalidRequest for files that are not read."""
    within = f"{place}.content"
    match block.type:
        case "text":
            return MessageContent(text=block.text)
        case "image":
            return _image(block, place)
        case "document":
            about = [MessageContent(text=each or "") for each in (block.title, block.context)]
            return _joined(*about, _document(block, place, depth))
        case "search_result":
            source = block.source if isinstance(block.source, str) else ""
            about = [MessageContent(text=each or "") for each in (block.title, source)]
            return _joined(*about, _within(block.content, within, depth))
        case "tool_reference":
            return MessageContent(text=block.tool_name)
        case "redacted_thinking" | "server_tool_use" | "container_upload":
            return MessageContent()
    return MessageContent(text=block.text) if block.text else _within(block.content, within, depth)


def _image(block: Block, place: str) -> MessageContent:
    """An image. Raises InvalidRequest where its data are not in the request, nor at a URL."""
    source = block.source if isinstance(block.source, dict) else {}
    kind = source.get("type")
    if kind == "base64" and isinstance(data := source.get("data"), str):
        return media_content("image", data, place, is_base64=True)
    if kind == "url" and isinstance(url := source.get("url"), str):
        return media_content("image", url, place)
    raise InvalidRequest(
        f"An image with a source of type {str(kind)[:40]!r} is not supported, or lacks its data "
        f"(at `$.{place}`).",
        "Send a source of type base64 with data; nothing is uploaded here.",
    )


def _document(block: Block, place: str, depth: int) -> MessageContent:
    """The text of a document. Raises InvalidRequest where it is a file that has to be read."""
    source = block.source if isinstance(block.source, dict) else {}
    kind = source.get("type")
    if kind == "text" and isinstance(source.get("data"), str):
        return MessageContent(text=str(source["data"]))
    if kind == "content":
        return _within(source.get("content"), f"{place}.source.content", depth)
    raise InvalidRequest(
        f"Documents of type {str(kind)[:40]!r} are not supported.",
        "Send the text of the document: a source of type text or content.",
    )


def _within(content: Any, place: str, depth: int = 0) -> MessageContent:
    """What a block holds: a text, blocks, or one block; anything else is left out."""
    if isinstance(content, str):
        return MessageContent(text=content)
    if isinstance(content, dict):
        content = [content]
    if not isinstance(content, list) or depth >= NESTED:
        return MessageContent()
    blocks = [convert(item, Block, "A block") for item in content]
    return _content(_blocks(blocks, place), depth + 1)


def _merged(messages: Sequence[Message]) -> list[Message]:
    """The messages, with those of the same role in a row as one; results of tools stay apart."""
    found: list[Message] = []
    for message in messages:
        if not found or found[-1].role != message.role or message.role == "tool":
            found.append(message)
            continue
        last = found[-1]
        content = _joined(*(MessageContent(text=m.content, media=m.media) for m in (last, message)))
        found[-1] = replace(
            last,
            content=content.text,
            media=content.media,
            thought=_lines([last.thought, message.thought]),
            tool_calls=(*last.tool_calls, *message.tool_calls),
        )
    return found


def _joined(*parts: MessageContent) -> MessageContent:
    return joined(parts, "\n")


def _lines(texts: Sequence[str]) -> str:
    return "\n".join(text for text in texts if text)
