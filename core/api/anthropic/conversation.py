"""Converts a conversation in Anthropic's form to ours. Pure.

Several blocks of a message become one text, and messages of the same role in a row one message, as
Anthropic's API has it. The results of tools come before the text that stands with them. Blocks
without text that the model could read are left out, images are refused.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from modeldeck.core.api.http.messages import convert
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
    for turn in turns:
        blocks = _blocks(turn.content)
        if turn.role == "assistant":
            found.append(_answer(blocks))
        elif turn.role == "system":
            found.append(Message(role="developer", content=_text(blocks)))
        else:
            found += _question(blocks)
    return tuple(_merged(found))


def _blocks(content: str | list[Block]) -> list[Block]:
    return [Block(text=content)] if isinstance(content, str) else content


def _system(system: str | list[Block] | None) -> str:
    """The system prompt without the line that changes with every request."""
    if system is None:
        return ""
    if isinstance(system, str):
        return _without_billing(system)
    texts = [block.text for block in system]
    return _joined([*map(_without_billing, texts[:1]), *texts[1:]])


def _without_billing(text: str) -> str:
    return text.partition("\n")[2] if text.startswith(BILLING) else text


def _question(blocks: Sequence[Block]) -> list[Message]:
    """The messages that a message of the user stands for: results of tools, then the text."""
    found = [
        Message(role="tool", content=_result(block), tool_call_id=block.tool_use_id)
        for block in blocks
        if block.type == "tool_result"
    ]
    others = [block for block in blocks if block.type != "tool_result"]
    if others or not found:
        found.append(Message(role="user", content=_text(others)))
    return found


def _result(block: Block) -> str:
    """The text of a tool's result."""
    text = _content(block.content)
    return _joined(["Error:", text]) if block.is_error else text


def _answer(blocks: Sequence[Block]) -> Message:
    """A message of the assistant."""
    thoughts = [_thought(block) for block in blocks if block.type == "thinking"]
    calls = tuple(_call(block) for block in blocks if block.type == "tool_use")
    others = [block for block in blocks if block.type not in ("thinking", "tool_use")]
    return Message(
        role="assistant", content=_text(others), thought=_joined(thoughts), tool_calls=calls
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


def _text(blocks: Sequence[Block], depth: int = 0) -> str:
    return _joined([_readable(block, depth) for block in blocks])


def _readable(block: Block, depth: int) -> str:
    """What the model can read of a block. Raises InvalidRequest for an image or a PDF file."""
    match block.type:
        case "text":
            return block.text
        case "image":
            raise InvalidRequest(
                "Images are not supported.", "Send text only, or describe the image in words."
            )
        case "document":
            return _joined([block.title or "", block.context or "", _document(block, depth)])
        case "search_result":
            source = block.source if isinstance(block.source, str) else ""
            return _joined([block.title or "", source, _content(block.content, depth)])
        case "tool_reference":
            return block.tool_name
        case "redacted_thinking" | "server_tool_use" | "container_upload":
            return ""
    return block.text or _content(block.content, depth)


def _document(block: Block, depth: int) -> str:
    """The text of a document. Raises InvalidRequest where it is a file that has to be read."""
    source = block.source if isinstance(block.source, dict) else {}
    kind = source.get("type")
    if kind == "text" and isinstance(source.get("data"), str):
        return str(source["data"])
    if kind == "content":
        return _content(source.get("content"), depth)
    raise InvalidRequest(
        f"Documents of type {str(kind)[:40]!r} are not supported.",
        "Send the text of the document: a source of type text or content.",
    )


def _content(content: Any, depth: int = 0) -> str:
    """The text of what a block holds: a text, blocks, or one block; anything else has none."""
    if isinstance(content, str):
        return content
    if isinstance(content, dict):
        content = [content]
    if not isinstance(content, list) or depth >= NESTED:
        return ""
    return _text([convert(item, Block, "A block") for item in content], depth + 1)


def _merged(messages: Sequence[Message]) -> list[Message]:
    """The messages, with those of the same role in a row as one; results of tools stay apart."""
    found: list[Message] = []
    for message in messages:
        if not found or found[-1].role != message.role or message.role == "tool":
            found.append(message)
            continue
        last = found[-1]
        found[-1] = replace(
            last,
            content=_joined([last.content, message.content]),
            thought=_joined([last.thought, message.thought]),
            tool_calls=(*last.tool_calls, *message.tool_calls),
        )
    return found


def _joined(texts: Sequence[str]) -> str:
    return "\n".join(text for text in texts if text)
