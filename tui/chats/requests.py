"""The request that a conversation becomes: messages with their files, sampling, thinking. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from modeldeck.core.schema import GenerateRequest, Media, Message
from modeldeck.tui.chats.chat import Chat, ChatAttachment, ChatTurn
from modeldeck.tui.chats.sampling import request_fields

_SUFFIX = re.compile(r"\.([A-Za-z0-9]{1,12})$")
_TICKS = re.compile(r"`{3,}")


def request_of(
    chat: Chat, *, asked: ChatTurn | None = None, json_schema: dict[str, Any] | None = None
) -> GenerateRequest:
    """The request for an answer to a question, by default to the last one shown.

    Args:
        chat: The conversation; only the path to the question is sent.
        asked: The question.
        json_schema: Content of the file that `ChatSampling.schema_file` names.
    """
    turns = chat.path(asked.id if asked else None)
    system = chat.options.system.strip()
    first = [Message(role="system", content=system)] if system else []
    thinking = chat.options.thinking
    return GenerateRequest(
        messages=(*first, *(message_of(turn) for turn in turns if turn.text or turn.attachments)),
        json_schema=json_schema,
        thinking=None if thinking == "auto" else thinking != "off",
        thinking_effort=thinking if thinking in ("low", "high") else None,
        **request_fields(chat.options.sampling),
    )


def message_of(turn: ChatTurn) -> Message:
    """A turn as a message: text files first, as quoted blocks, then the words."""
    texts = [quoted(file) for file in turn.attachments if file.kind == "text"]
    media = tuple(
        Media(kind=file.kind, data=file.data, at=0)
        for file in turn.attachments
        if file.kind != "text"
    )
    content = "\n\n".join([*texts, turn.text] if turn.text else texts)
    return Message(role=turn.role, content=content, media=media, thought=turn.thought)


def quoted(file: ChatAttachment) -> str:
    """A text file as a fenced block below its name; the fence is longer than any inside."""
    found = _SUFFIX.search(file.name)
    longest = max((len(ticks) for ticks in _TICKS.findall(file.text)), default=2)
    fence = "`" * (longest + 1)
    name = file.name.replace("`", "'")
    body = file.text.removesuffix("\n")
    return f"`{name}`:\n{fence}{found[1] if found else ''}\n{body}\n{fence}"


def pictures(turns: Sequence[ChatTurn]) -> int:
    """How many pictures and recordings these turns hold."""
    return sum(file.kind != "text" for turn in turns for file in turn.attachments)
